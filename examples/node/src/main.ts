// Streams three series to the server, each value answered with a forecast. Kill the server meanwhile: nothing is lost.
//
//   npm start -- [target] [prefix of the sessions] [values of each]
import type { ServiceError } from "@grpc/grpc-js";
import type { ForecastResponse__Output } from "./generated/statecast/v1/ForecastResponse";
import type { ForecastServiceClient } from "./generated/statecast/v1/ForecastService";
import type { ForecastStreamResponse__Output } from "./generated/statecast/v1/ForecastStreamResponse";
import type { GetSessionResponse__Output } from "./generated/statecast/v1/GetSessionResponse";
import { answered, Backoff, isRetryable } from "./retry";
import { Series } from "./series";
import { connect, explain } from "./service";

const [target = "localhost:50051", prefix = "node", count = "100"] = process.argv.slice(2);

// Shows what a refused request says about itself.
async function beRefused(service: ForecastServiceClient): Promise<void> {
  const request = { session_id: `${prefix}-1`, open: {}, observations: { values: [1e40] } };
  try {
    await answered<ForecastResponse__Output>((deadline, callback) => service.Forecast(request, { deadline }, callback));
  } catch (error) {
    console.log(`refused: ${explain(error as ServiceError)}`);
  }
}

// Sends what is in flight and then value after value, until all are answered or the stream breaks.
async function stream(service: ForecastServiceClient, all: Series[]): Promise<void> {
  const byId = new Map(all.map((series) => [series.id, series]));
  const call = service.ForecastStream();
  const waiting = all.flatMap(({ request }) => (request ? [request] : []));
  call.write({ requests: waiting });
  let open = waiting.length;
  if (open === 0) call.end();
  for await (const { results } of call as AsyncIterable<ForecastStreamResponse__Output>) {
    for (const { response, status, session_id } of results) {
      const series = byId.get(response ? response.session_id : session_id);
      if (series === undefined) continue;
      if (response) {
        series.take(response);
        series.next();
      } else if (status && isRetryable(status.code)) {
        await series.backoff.wait(new Error(explain(status)));
      } else if (status) {
        throw new Error(explain(status));
      }
      if (series.request) call.write({ requests: [series.request] });
      else if (--open === 0) call.end();
    }
  }
}

// Streams until every value is answered. A stream that breaks is followed by another.
async function streamAll(service: ForecastServiceClient, all: Series[]): Promise<void> {
  const sentSoFar = () => all.reduce((sum, { sent }) => sum + sent, 0);
  let backoff = new Backoff();
  while (all.some(({ request }) => request)) {
    const before = sentSoFar();
    try {
      await stream(service, all);
    } catch (error) {
      if (!isRetryable((error as ServiceError).code)) throw error;
      console.log(`the stream broke, ${explain(error as ServiceError)}; sending again what is unanswered`);
      if (sentSoFar() > before) backoff = new Backoff(); // it went on, so patience begins anew
      await backoff.wait(error as Error);
    }
  }
}

async function main(): Promise<void> {
  const service = connect(target);
  await beRefused(service);
  const hours = Array.from({ length: Number(count) }, (_, hour) => hour);
  const all = [1, 2, 3].map((number) => {
    const values = hours.map((hour) => 20 + 5 * Math.sin((hour + 8 * number) * (Math.PI / 12)));
    return new Series(`${prefix}-${number}`, values);
  });
  for (const series of all) {
    const request = series.next();
    if (request === null) continue;
    series.take(await answered((deadline, callback) => service.Forecast(request, { deadline }, callback)));
    series.next();
  }
  await streamAll(service, all);
  for (const { id: session_id } of all) {
    const { session } = await answered<GetSessionResponse__Output>((deadline, callback) =>
      service.GetSession({ session_id }, { deadline }, callback),
    );
    console.log(`${session_id}: ${count} values sent, at step ${session?.version?.step}`);
  }
  service.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
