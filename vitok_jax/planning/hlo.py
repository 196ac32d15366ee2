"""Reads a compiled program's text: what its collectives and its kernels move."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
    "f8e4m3fn": 8, "f8e5m2": 8,
}  # fmt: skip
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
# A reduce-scatter of the TPU compiler is a fusion of this name around an all-reduce and a slice.
_SCATTER_FUSION = "all-reduce-scatter"

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"^([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?(%[\w.\-]+(?:, %[\w.\-]+)*)")
_KERNEL = 'custom_call_target="tpu_custom_call"'
_CONDITION = re.compile(r"condition=%([\w.\-]+)")
_POSITION = re.compile(r"^get-tuple-element\(.*index=(\d+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CONSTANT = re.compile(r"constant\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one kind of instruction moves in a step, on one chip.

    Attributes:
      count: times it runs.
      bytes: of a collective the larger of what goes in and what comes out; of a kernel both.
    """

    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      name: of its result.
      opcode: what it does.
      kind: type of the result, layouts and memory spaces included.
      result: bytes of the result.
      operands: names of what it is given.
      called: names of the computations that it runs.
      line: the text after the type.
    """

    name: str
    opcode: str
    kind: str
    result: int
    operands: tuple[str, ...]
    called: tuple[str, ...]
    line: str

    @property
    def is_kernel(self) -> bool:
        """Whether it runs a Pallas kernel."""
        return self.opcode == "custom-call" and _KERNEL in self.line


class Program:
    """A compiled module.

    Loops count as often as they run, where the compiler knows how often that is.

    Attributes:
      computations: the instructions of each, by name; the last one gives the result.
      named: every instruction by its name.
    """

    def __init__(self, text: str):
        """Parses the text.

        Args:
          text: of `jax.stages.Compiled.as_text()`.
        """
        self.computations: dict[str, list[Instruction]] = {}
        self.named: dict[str, Instruction] = {}
        self._entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = self.computations.setdefault(head[2], [])
                self._entry = head[2] if head[1] else self._entry
            elif found := _INSTRUCTION.match(line):
                instruction = _instruction(found[1], found[2])
                self.named[instruction.name] = instruction
                current.append(instruction)

    def collectives(self) -> dict[str, Traffic]:
        """What moves between chips, by kind."""
        counts: collections.Counter[str] = collections.Counter()
        sizes: collections.Counter[str] = collections.Counter()
        for instruction, times, computation in self.run():
            kind = instruction.opcode.removesuffix("-start")
            if kind not in COLLECTIVES:
                continue
            given = self._given(instruction)
            result = instruction.result
            if instruction.opcode.endswith("-start"):
                result = max(result - given, 0)  # its result repeats its operands
            if computation.startswith(_SCATTER_FUSION):
                kind = "reduce-scatter"
            counts[kind] += times
            sizes[kind] += times * max(given, result)
        return {kind: Traffic(counts[kind], sizes[kind]) for kind in sorted(counts)}

    def kernels(self) -> Traffic:
        """What Pallas kernels are given and give: the compiler counts nothing for them.

        Other custom calls of the TPU compiler only give names to memory and touch none of it.
        """
        count = size = 0
        for instruction, times, _ in self.run():
            if instruction.is_kernel:
                count += times
                size += times * (self._given(instruction) + instruction.result)
        return Traffic(count, size)

    def cycles(self) -> int:
        """Cycles that the TPU compiler expects of what it wrote itself; kernels have none.

        An estimate to compare programs with, not a time.
        """
        return sum(
            times * int(found[1])
            for instruction, times, _ in self.run()
            if (found := _CYCLES.search(instruction.line))
        )

    def stacked(self, rows: int) -> int:
        """Bytes that loops over blocks keep for their backward passes.

        Args:
          rows: examples on one chip: what is stacked has them as its second axis.
        """
        total = 0
        for instruction, times, _ in self.run():
            if instruction.opcode != "while" or "transpose(" in instruction.line:
                continue
            stacked = f"{self._trips(instruction)},{rows},"
            total += times * sum(
                _array_bytes(dtype, sizes)
                for dtype, sizes in _ARRAY.findall(instruction.kind)
                if sizes.startswith(stacked)
            )
        return total

    def _given(self, instruction: Instruction) -> int:
        return sum(self.named[name].result for name in instruction.operands if name in self.named)

    def _trips(self, instruction: Instruction) -> int:
        """How often a loop runs: what its condition compares a counter with, by the stride of it.

        The compiler itself unrolls loops by two, where one product waits for what the next sends.
        """
        if instruction.opcode != "while":
            return 1
        (condition,) = _CONDITION.findall(instruction.line)
        limits = list(_constants(self.computations.get(condition, ())).values())
        return -(-limits[0] // self._stride(instruction, condition)) if len(limits) == 1 else 1

    def _stride(self, loop: Instruction, condition: str) -> int:
        """What the loop adds to its counter each time; 1 where that is not written plainly."""
        (body,) = (name for name in loop.called if name in self.computations)
        test, state = self.computations[condition], self.computations[body]
        positions = _positions(test)
        counters = [positions[name] for name in test[-1].operands if name in positions]
        if len(counters) != 1 or len(state[-1].operands) <= counters[0]:
            return 1
        after = state[-1].operands[counters[0]]
        sums = [one for one in state if one.name == after and one.opcode == "add"]
        constants = _constants(state)
        strides = [constants[name] for one in sums for name in one.operands if name in constants]
        return strides[0] if strides else 1

    def run(self) -> Iterator[tuple[Instruction, int, str]]:
        """Every instruction with how often it runs and the computation that holds it."""
        waiting = [(self._entry, 1)]
        while waiting:
            computation, times = waiting.pop()
            for instruction in self.computations.get(computation, ()):
                yield instruction, times, computation
                inside = times * self._trips(instruction)
                waiting += [(name, inside) for name in instruction.called]


def _constants(computation: Iterable[Instruction]) -> dict[str, int]:
    """Whole numbers that a computation names."""
    found = ((one.name, _CONSTANT.match(one.line)) for one in computation)
    return {name: int(match[1]) for name, match in found if match is not None}


def _positions(computation: Iterable[Instruction]) -> dict[str, int]:
    """Which part of a tuple a name stands for."""
    found = ((one.name, _POSITION.search(one.line)) for one in computation)
    return {name: int(match[1]) for name, match in found if match is not None}


def array_bytes(text: str) -> int:
    """Bytes of every array whose type stands in a text such as `(f32[8,4], bf16[2])`."""
    return sum(_array_bytes(dtype, sizes) for dtype, sizes in _ARRAY.findall(text))


def _array_bytes(dtype: str, sizes: str) -> int:
    count = math.prod(int(size) for size in sizes.split(",") if size)
    return (count * _BITS.get(dtype, 0) + 7) // 8


def _instruction(name: str, rest: str) -> Instruction:
    """Splits `TYPE OPCODE(OPERANDS), ATTRIBUTES`."""
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode = _OPCODE.match(rest)
    if opcode is None:
        return Instruction(name, "", kind, array_bytes(kind), (), (), rest)
    close = _closing(rest)
    called = _CALLED.findall(rest[close:])
    return Instruction(
        name=name,
        opcode=opcode[1],
        kind=kind,
        result=array_bytes(kind),
        operands=tuple(_NAME.findall(rest[:close])),
        called=tuple(n for names in called for n in _NAME.findall(names)),
        line=rest,
    )


def _closing(text: str) -> int:
    """Index of the parenthesis that closes the first one."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return index
    return len(text) - 1
