"""What chip and memory exchange in a compiled step, read from its text.

The compiler's own count takes every operand and every result of an instruction, wherever they lie.
Much of a step lies in the chip's own memory (128 MiB on a v5e), where the compiler copies arrays
ahead of use: of such a copy memory sees one read, the count has three accesses. Here only arrays in
memory count, loops as often as they run, and of arrays that are cut or filled the part that moves.
"""

import re

from vitok_jax.planning import hlo

# They name arrays, or finish what another instruction began.
_FREE = frozenset(
    (
        "", "after-all", "bitcast", "call", "conditional", "constant", "get-tuple-element",
        "parameter", "partition-id", "replica-id", "tuple", "while",
    )
)  # fmt: skip
_CUTS = frozenset(("dynamic-slice", "slice", "slice-start"))
_FILL = "dynamic-update-slice"
_LAYOUT = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?\[[\d,]*\])(\{[^}]*\})?")
_PARAMETER = re.compile(r"parameter\((\d+)\)")
_ELSEWHERE = re.compile(r"S\([1-9]\d*\)")


def bytes_exchanged(program: hlo.Program) -> int:
    """Bytes between one chip and its memory in a run of the program."""
    fused = {
        name
        for one in program.named.values()
        if one.opcode not in ("while", "conditional", "call")
        for name in one.called
    }
    return sum(
        times * _exchanged(program, one)
        for one, times, computation in program.run()
        if computation not in fused
    )


def _exchanged(program: hlo.Program, one: hlo.Instruction) -> int:
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0
    if one.opcode == "custom-call" and not one.is_kernel:
        return 0
    if one.opcode == "fusion":
        return _fusion(program, one)
    given = [program.named[name] for name in one.operands if name in program.named]
    if one.opcode in _CUTS:
        size, in_memory = _arrays(one.kind)[one.opcode == "slice-start"]  # after its operand
        return size * (in_memory + _in_memory(given[0]))
    if one.opcode == _FILL:
        return given[1].result * (_in_memory(one) + _in_memory(given[1]))
    if one.opcode.endswith("-start"):
        return _held(one.kind)  # its result repeats its operands
    return _held(one.kind) + sum(_held(array.kind) for array in given)


def _fusion(program: hlo.Program, one: hlo.Instruction) -> int:
    """Operands that are only cut count as their cuts; results that are only filled, as what fills.

    What is filled in place is not read.
    """
    given = [program.named[name] for name in one.operands]
    inputs = sum(
        _read(program, one.called[0], number, array.result)
        for number, array in enumerate(given)
        if _in_memory(array)
    )
    results = _arrays(one.kind)
    outputs = 0
    for number, (size, in_memory) in enumerate(results):
        filling = _written(program, one.called[0], number, len(results))
        outputs += in_memory * (size if filling is None else filling)
    return inputs + outputs


def _read(program: hlo.Program, computation: str, number: int, size: int) -> int:
    """Bytes of its argument of that number that a fused computation reads."""
    inside = program.computations[computation]
    names = {one.name for one in inside if _is_parameter(one, number)}
    total = 0
    for one in inside:
        places = [place for place, name in enumerate(one.operands) if name in names]
        if not places:
            continue
        if one.opcode == "bitcast":
            names.add(one.name)
        elif one.opcode in _CUTS:
            total += one.result
        elif one.opcode == "fusion":
            total += sum(_read(program, one.called[0], place, size) for place in places)
        elif one.opcode != _FILL or places != [0]:
            return size
    return size if inside[-1].name in names else min(total, size)


def _written(program: hlo.Program, computation: str, number: int, count: int) -> int | None:
    """Bytes that a fused computation fills of an array that it is given; None if it makes one."""
    last = program.computations[computation][-1]
    name = last.operands[number] if last.opcode == "tuple" and count > 1 else last.name
    while (one := program.named[name]).opcode == "bitcast":
        name = one.operands[0]
    if one.opcode == "fusion" and one.called:
        return _written(program, one.called[0], 0, 1)
    return program.named[one.operands[1]].result if one.opcode == _FILL else None


def _is_parameter(one: hlo.Instruction, number: int) -> bool:
    found = _PARAMETER.match(one.line)
    return found is not None and int(found[1]) == number


def _arrays(kind: str) -> list[tuple[int, bool]]:
    """Bytes of each array of a type, and whether it lies in memory."""
    return [
        (hlo.array_bytes(array), not _ELSEWHERE.search(layout))
        for array, layout in _LAYOUT.findall(kind)
    ]


def _held(kind: str) -> int:
    return sum(size for size, in_memory in _arrays(kind) if in_memory)


def _in_memory(one: hlo.Instruction) -> bool:
    return any(in_memory for _, in_memory in _arrays(one.kind))
