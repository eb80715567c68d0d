"""`StepProfile`: where the time of a step goes, what the step does, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from easyflax.train.measured_peak import MeasuredPeak
from easyflax.train.step_costs import StepCosts, StepMemory

__all__ = ["CallbackTime", "StepProfile"]

_MUCH = 0.4  # of a peak: who computes or reads as fast as that is bound by it
_CACHED = 2**25  # bytes that processors cache, more or less


class CallbackTime(NamedTuple):
    """What the hooks of a callback take.

    Attributes:
        step: seconds a step, those of the hooks of batches.
        epoch: seconds an epoch, those of `on_epoch_begin` and `on_epoch_end`.
    """

    step: float
    epoch: float


@dataclass(frozen=True, repr=False)
class StepProfile:
    """Where the time of a step goes; `print` it, or leave it to the notebook to show it as a table.

    The parts are timed apart, one after the other, and add up to `total_seconds`. In `fit` they overlap as
    far as they can, which `fit_seconds` tells: data of most kinds are read in a thread of their own, and
    devices other than the CPU compute while the next step is dispatched.

    Attributes:
        model: the name of the model.
        rows: of a batch.
        batch_bytes: of a batch.
        devices: how many share the work.
        device_kind: what they are.
        compute_dtype: what the model computes in.
        is_compiled: whether the step is compiled, and not computed in Python.
        data_seconds: reads a batch on the host.
        transfer_seconds: brings it to the devices.
        dispatch_seconds: hands the arrays of the step over, in Python and in the runtime.
        device_seconds: computes.
        callbacks_seconds: hooks of batches, without waiting for the device.
        epochs_seconds: ends epochs and begins others, with their hooks; shared by the steps of one.
        fit_seconds: a step in `fit`, with all of these; None if the data ended before.
        compile_seconds: traced and compiled the step, once; next to nothing where that had been done.
        callbacks: by name, what each takes.
        steps_per_dispatch: steps that go to the devices together.
        costs: what the step does, by XLA; None where nothing is compiled.
        has_loop: whether something in it repeats, as in recurrent layers: XLA counts that once, so that the
            numbers of `costs` are the least that there can be.
        memory: what it takes on each device; None when unknown.
        peak: what the devices can do; None where nothing is compiled.
    """

    model: str
    rows: int
    batch_bytes: int
    devices: int
    device_kind: str
    compute_dtype: str
    is_compiled: bool
    data_seconds: float
    transfer_seconds: float
    dispatch_seconds: float
    device_seconds: float
    callbacks_seconds: float
    epochs_seconds: float
    fit_seconds: float | None
    compile_seconds: float = 0.0
    callbacks: Mapping[str, CallbackTime] = field(default_factory=dict)
    steps_per_dispatch: int = 1
    costs: StepCosts | None = None
    has_loop: bool = False
    memory: StepMemory | None = None
    peak: MeasuredPeak | None = None

    @property
    def parts(self) -> dict[str, float]:
        """The seconds of a step by part."""
        names = ("data", "transfer", "dispatch", "device", "callbacks", "epochs")
        return {name: getattr(self, f"{name}_seconds") for name in names}

    @property
    def total_seconds(self) -> float:
        """What the parts take one after the other."""
        return sum(self.parts.values())

    @property
    def rows_per_second(self) -> float:
        """How fast `fit` goes; as the parts would, one after the other, where that is not known."""
        return self.rows / (self.fit_seconds or self.total_seconds)

    @property
    def flops_per_second(self) -> float | None:
        """Floating-point operations a second while the devices compute; None when unknown."""
        return self._a_second(self.costs.flops if self.costs else None, self.device_seconds)

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes read and written a second while the devices compute; None when unknown."""
        return self._a_second(self.costs.bytes_accessed if self.costs else None, self.device_seconds)

    @property
    def share_of_peak(self) -> float | None:
        """`flops_per_second` of what the devices were measured to do; None when unknown."""
        flops = self.flops_per_second
        return None if flops is None or self.peak is None else flops / self.peak.flops_per_second

    @property
    def share_of_peak_in_fit(self) -> float | None:
        """Likewise, but of all the time that a step of `fit` takes; None when unknown."""
        share = self.share_of_peak
        return (
            None if share is None or not self.fit_seconds else share * self.device_seconds / self.fit_seconds
        )

    @property
    def share_of_bandwidth(self) -> float | None:
        """`bytes_per_second` of what the devices were measured to do; more than 1 where caches serve."""
        read = self.bytes_per_second
        return None if read is None or self.peak is None else read / self.peak.bytes_per_second

    @property
    def bound(self) -> str:
        """What bounds the step: the part that takes longest, such as "data", "dispatch" or "callbacks".

        Where that is the device: "compute" or "memory" if it comes near what was measured of either, else
        "operations": it spends its time with many small ones; "eager" where nothing is compiled.
        """
        longest = max(self.parts, key=self.parts.__getitem__)
        if longest != "device":
            return longest
        if not self.is_compiled:
            return "eager"
        is_cached = self.memory is not None and self.memory.total < _CACHED
        compute, memory = self.share_of_peak or 0.0, 0.0 if is_cached else self.share_of_bandwidth or 0.0
        if max(compute, memory) < _MUCH:
            return "operations"
        return "memory" if compute < memory else "compute"

    @property
    def advice(self) -> str:
        """What bounds the step and what may help, in a sentence or two."""
        return _ADVICE[self.bound].format(callback=max(self.callbacks, key=self._of_step, default=""))

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as plain numbers and strings, in nested dicts."""
        derived = ("total_seconds", "rows_per_second", "flops_per_second", "bytes_per_second")
        shares = ("share_of_peak", "share_of_peak_in_fit", "share_of_bandwidth", "bound", "advice")
        callbacks = {name: spent._asdict() for name, spent in self.callbacks.items()}
        more = {name: getattr(self, name) for name in (*derived, *shares)}
        return {**asdict(self), "callbacks": callbacks, **more}

    def _of_step(self, callback: str) -> float:
        return self.callbacks[callback].step

    @staticmethod
    def _a_second(number: float | None, seconds: float) -> float | None:
        return None if number is None or seconds <= 0 else number / seconds

    # -- as text

    def __rich__(self) -> Any:
        from easyflax.models.profile_table import profile_table  # rich is slow to import

        return profile_table(self)

    def __str__(self) -> str:
        from easyflax.models.profile_table import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from easyflax.models.profile_table import as_html

        return as_html(self)


_ADVICE = {
    "data": (
        "Bound by data: reading a batch takes longer than anything else. Read in worker processes (grain's "
        "mp_prefetch, num_workers of a DataLoader, workers of a PyDataset), prepare rows once and keep them, "
        "or pass arrays."
    ),
    "transfer": (
        "Bound by transfer: the batch takes long to reach the device. Pass a smaller dtype, such as uint8 "
        "pixels that the model scales itself."
    ),
    "dispatch": (
        "Bound by dispatch: handing a step over takes longer than computing it. Pass a larger batch_size, or "
        "more steps_per_execution to compile()."
    ),
    "callbacks": (
        "Bound by callbacks: {callback} takes longest. Do its work every so many batches, or in on_epoch_end."
    ),
    "epochs": (
        "Bound by epochs: they are so short that ending and beginning them takes longer than their steps. "
        "Repeat the data within an epoch, or do less in hooks of epochs."
    ),
    "eager": (
        "Bound by Python: the step is computed one operation after the other, nothing is compiled. Leave "
        "run_eagerly out of compile() when you are done debugging."
    ),
    "compute": (
        "Bound by compute: the device multiplies about as fast as it can. "
        "compile(precision='mixed_bfloat16') helps where the device is faster in half size; else take more "
        "devices or a smaller model."
    ),
    "memory": (
        "Bound by memory: the device waits for what it reads and writes. A larger batch_size shares the "
        "reading of the weights, compile(precision='mixed_bfloat16') halves activations."
    ),
    "operations": (
        "Bound by the device, by many small operations: it comes near neither its speed nor its bandwidth. "
        "A larger batch_size or wider layers use it better."
    ),
}
