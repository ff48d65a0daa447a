// What the JavaScript of docs/api.md does on a server; the page's code stands before this, and what it logs is in `said`.
const assert = require("assert");

function call(client, method, request) {
  return new Promise((resolve, reject) =>
    client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );
}

async function failure(client, method, request) {
  return call(client, method, request).then(() => assert.fail(`${method} did not fail`), (error) => error);
}

async function main() {
  const [forecast, version] = await said;
  assert.equal(forecast.values.length, 3 * forecast.quantile_levels.length);
  assert.equal(version.step, "3");
  assert.deepEqual(last_seen, version);

  Object.assign(request, { session_id: `${request.session_id} again`, last_seen: {} });
  const first = await call(service, "Forecast", request);
  assert.deepEqual(first.pit.map(Number.isNaN), [true, true, false]);  // nothing before the first, nothing at the gap
  assert.match(first.version.tag, /^[0-9]+$/);

  const repeated = await call(service, "Forecast", request);
  assert.equal(repeated.replayed, true);
  assert.deepEqual(repeated.version, first.version);

  last_seen = first.version;
  const next = { session_id: request.session_id, last_seen, request_id: Buffer.from(randomUUID()), observations: { values: [20.5] } };
  const second = await call(service, "Forecast", next);
  assert.equal(second.version.step, "4");

  const rounded = { ...next, request_id: Buffer.from(randomUUID()), last_seen: { ...second.version, tag: "1" } };
  assert.equal(reasonOf(await failure(service, "Forecast", rounded)), "SESSION_REGRESSED");
  assert.equal(reasonOf(await failure(service, "GetSession", { session_id: "nobody's" })), "SESSION_NOT_FOUND");

  const mixed = await call(service, "ForecastMany", { requests: [{ session_id: "nobody's" }] });
  assert.equal(reasonIn(mixed.results[0].status), "SESSION_NOT_FOUND");

  const late = await new Promise((resolve) => service.Forecast(next, { deadline: Date.now() - 1 }, resolve));
  assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
  assert.equal(reasonOf(late), undefined);
  const nobody = new ForecastService("localhost:1", grpc.credentials.createInsecure());
  const dead = await failure(nobody, "GetSession", { session_id: "any" });
  assert.equal(dead.code, grpc.status.UNAVAILABLE);
  assert.equal(reasonOf(dead), undefined);
  nobody.close();

  const requests = Array.from({ length: 1500 }, () => ({ session_id: request.session_id, horizon: 64 }));
  requests[0].observations = { values: [20.6] };
  const small = new ForecastService(service.getChannel().getTarget(), grpc.credentials.createInsecure());
  const refused = await failure(small, "ForecastMany", { requests });
  assert.equal(refused.code, grpc.status.RESOURCE_EXHAUSTED);
  const { results } = await call(service, "ForecastMany", { requests: requests.slice(1) });
  assert.equal(results.length, 1499);
  assert.equal(results[0].response.version.step, "5");
  assert.equal(reasonOf(refused), undefined);
  small.close();
  service.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
