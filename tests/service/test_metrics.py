"""Observing at once gives the totals of observing one by one."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from statecast.service.metrics import SECONDS, Metrics, observe_all


@given(st.lists(st.one_of(st.sampled_from(SECONDS), st.floats(0.0, 1e3)), max_size=50))
def test_values_observed_at_once_count_as_one_by_one(values: Sequence[float]) -> None:
    together, alone = Metrics(), Metrics()
    observe_all(together.queue_seconds, Counter(values))
    for value in values:
        alone.queue_seconds.observe(value)
    found, wanted = (
        {
            (sample.name, sample.labels.get("le")): round(sample.value, 6)
            for metric in metrics.queue_seconds.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }
        for metrics in (together, alone)
    )
    assert found == wanted
