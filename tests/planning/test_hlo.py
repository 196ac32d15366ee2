"""Reading compiled programs: a made-up text with every form that the TPU compiler writes."""

import pytest

from vitok_jax.planning import hlo

TEXT = """
HloModule jit_step, entry_computation_layout={()}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %a)
}

%all-reduce-scatter.1 (p: f32[8,128]) -> f32[2,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %all-reduce.9 = f32[8,128]{1,0:T(8,128)} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
  ROOT %cut = f32[2,128]{1,0} slice(%all-reduce.9), slice={[0:2], [0:128]}
}

%body (state: (s32[], bf16[4,16,32])) -> (s32[], bf16[4,16,32]) {
  %state = (s32[], bf16[4,16,32]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %before = s32[]{:T(128)} get-tuple-element(%state), index=0
  %stride = s32[]{:T(128)} constant(1)
  %after = s32[]{:T(128)} add(%before, %stride)
  %kept = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %all-gather-start.1 = (bf16[4,16,32]{2,1,0}, bf16[8,16,32]{2,1,0}) all-gather-start(%kept), dimensions={0}
  %all-gather-done.1 = bf16[8,16,32]{2,1,0} all-gather-done(%all-gather-start.1), backend_config={"window_config":{"estimated_cycles":"25"}}
  %kernel = (bf16[4,16,32]{2,1,0}, f32[4]{0}) custom-call(%kept, %kept), custom_call_target="tpu_custom_call"
  ROOT %out = (s32[], bf16[4,16,32]{2,1,0}) tuple(%after, %kept)
}

%cond (state: (s32[], bf16[4,16,32])) -> pred[] {
  %state = (s32[], bf16[4,16,32]) parameter(0)
  %trips = s32[]{:T(128)} constant(4)
  %counter = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)} compare(%counter, %trips), direction=LT
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)S(1)} parameter(0)
  %start = (s32[], bf16[4,16,32]{2,1,0}) tuple(%x, %x)
  %while = (s32[], bf16[4,16,32]{2,1,0:T(8,128)(2,1)}) while(%start), condition=%cond, body=%body, metadata={op_name="jit(step)/jvp(a)/while"}
  %fused = f32[2,128]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %all-reduce.2 = f32[8,128]{1,0:T(8,128)} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add, backend_config={"window_config":{"estimated_cycles":"7"}}
}
"""  # noqa: E501


def test_collectives_count_as_often_as_they_run() -> None:
    assert hlo.Program(TEXT).collectives() == {
        "all-gather": hlo.Traffic(4, 4 * 8 * 16 * 32 * 2),
        "all-reduce": hlo.Traffic(1, 8 * 128 * 4),
        "reduce-scatter": hlo.Traffic(1, 8 * 128 * 4),
    }


def test_a_loop_that_the_compiler_unrolled_by_two_runs_half_as_often() -> None:
    program = hlo.Program(
        TEXT.replace("%stride = s32[]{:T(128)} constant(1)", "%stride = s32[]{:T(128)} constant(2)")
    )
    assert program.collectives()["all-gather"].count == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("add(%before, %stride)", "fusion(%before), kind=kLoop, calls=%next"),
        (
            "%counter = s32[]{:T(128)} get-tuple-element(%state), index=0",
            "%counter = s32[] copy(%x)",
        ),
    ],
)
def test_a_counter_that_cannot_be_read_goes_up_by_one(old: str, new: str) -> None:
    assert old in TEXT
    assert hlo.Program(TEXT.replace(old, new)).collectives()["all-gather"].count == 4


def test_custom_calls_count_what_goes_in_and_out() -> None:
    assert hlo.Program(TEXT).kernels() == hlo.Traffic(4, 4 * (3 * 4 * 16 * 32 * 2 + 4 * 4))


def test_cycles_of_a_loop_count_as_often_as_it_runs() -> None:
    assert hlo.Program(TEXT).cycles() == 4 * 25 + 7


def test_what_a_loop_keeps() -> None:
    program = hlo.Program(TEXT)
    assert program.stacked(rows=16) == 4 * 16 * 32 * 2
    assert program.stacked(rows=8) == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("f32[8,128]{1,0:T(8,128)}", 4096), ("(bf16[3], pred[])", 7), ("s4[3]", 2), ("token[]", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert hlo.array_bytes(text) == size
