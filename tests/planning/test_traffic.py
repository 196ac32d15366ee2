"""Bytes between chip and memory: a made-up text of every form, and the compiler's own count."""

import jax
import jax.numpy as jnp
import pytest

from tests import required
from vitok_jax.planning import hlo, pods, traffic

ARRAY = 64 * 128 * 4  # bytes
HEAD = """
HloModule jit_step

%cut (p.0: f32[8,64,128], p.1: s32[]) -> f32[64,128] {
  %p.0 = f32[8,64,128]{2,1,0:T(8,128)} parameter(0)
  %p.1 = s32[] parameter(1)
  %part.0 = f32[1,64,128]{2,1,0} dynamic-slice(%p.0, %p.1)
  ROOT %as.0 = f32[64,128]{1,0} bitcast(%part.0)
}

%cut_inside (p.2: f32[8,64,128], p.3: s32[]) -> f32[64,128] {
  %p.2 = f32[8,64,128]{2,1,0:T(8,128)} parameter(0)
  %p.3 = s32[] parameter(1)
  %inner.0 = f32[64,128]{1,0} fusion(%p.2, %p.3), kind=kLoop, calls=%cut
  ROOT %twice.0 = f32[64,128]{1,0} add(%inner.0, %inner.0)
}

%whole (p.4: f32[64,128]) -> f32[64,128] {
  ROOT %p.4 = f32[64,128]{1,0} parameter(0)
}

%whole_inside (p.5: f32[64,128]) -> f32[64,128] {
  %p.5 = f32[64,128]{1,0} parameter(0)
  %inner.1 = f32[64,128]{1,0} fusion(%p.5), kind=kLoop, calls=%whole
  ROOT %square.0 = f32[64,128]{1,0} multiply(%inner.1, %inner.1)
}

%fill (p.6: f32[8,64,128], p.7: f32[64,128], p.8: s32[]) -> (f32[8,64,128], f32[64,128]) {
  %p.6 = f32[8,64,128]{2,1,0:T(8,128)} parameter(0)
  %p.7 = f32[64,128]{1,0} parameter(1)
  %p.8 = s32[] parameter(2)
  %row.0 = f32[1,64,128]{2,1,0} bitcast(%p.7)
  %filled.0 = f32[8,64,128]{2,1,0} dynamic-update-slice(%p.6, %row.0, %p.8)
  %named.0 = f32[8,64,128]{2,1,0} bitcast(%filled.0)
  %double.0 = f32[64,128]{1,0} add(%p.7, %p.7)
  ROOT %both.0 = (f32[8,64,128]{2,1,0}, f32[64,128]{1,0}) tuple(%named.0, %double.0)
}

ENTRY %main (x: f32[64,128], s: f32[8,64,128], i: s32[]) -> f32[64,128] {
  %x = f32[64,128]{1,0:T(8,128)} parameter(0)
  %near = f32[64,128]{1,0:T(8,128)S(1)} parameter(1)
  %s = f32[8,64,128]{2,1,0:T(8,128)} parameter(2)
  %i = s32[]{:S(6)} parameter(3)
"""


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("%a = f32[64,128]{1,0} add(%x, %x)", 3 * ARRAY),
        ("%a = f32[64,128]{1,0:S(1)} add(%x, %near)", ARRAY),
        ("%a = f32[64,128]{1,0} bitcast(%x)", 0),
        ("%a = (f32[64,128]{1,0:S(1)}, f32[64,128]{1,0}, u32[]{:S(2)}) copy-start(%x)", ARRAY),
        ("%a = f32[64,128]{1,0:S(1)} copy-done(%x)", 0),
        (
            "%a = (f32[8,64,128]{2,1,0}, f32[1,64,128]{2,1,0:S(1)}, s32[]{:S(2)}) slice-start(%s)",
            ARRAY,
        ),
        ("%a = f32[1,64,128]{2,1,0} dynamic-slice(%s, %i)", 2 * ARRAY),
        ("%a = f32[8,64,128]{2,1,0} dynamic-update-slice(%s, %x, %i)", 2 * ARRAY),
        ("%a = f32[8,64,128]{2,1,0} dynamic-update-slice(%s, %near, %i)", ARRAY),
        ("%a = f32[64,128]{1,0} fusion(%s, %i), kind=kLoop, calls=%cut", 2 * ARRAY),
        ("%a = f32[64,128]{1,0} fusion(%s, %i), kind=kLoop, calls=%cut_inside", 2 * ARRAY),
        ("%a = f32[64,128]{1,0} fusion(%x), kind=kLoop, calls=%whole_inside", 2 * ARRAY),
        (
            "%a = (f32[8,64,128]{2,1,0}, f32[64,128]{1,0}) fusion(%s, %x, %i), calls=%fill",
            3 * ARRAY,
        ),
        ('%a = f32[64,128]{1,0} custom-call(%x), custom_call_target="AllocateBuffer"', 0),
        ('%a = f32[64,128]{1,0} custom-call(%s), custom_call_target="tpu_custom_call"', 9 * ARRAY),
    ],
)
def test_one_instruction(line: str, size: int) -> None:
    assert traffic.bytes_exchanged(hlo.Program(f"{HEAD}  ROOT {line}\n}}\n")) == size


def test_loops_count_as_often_as_they_run() -> None:
    loop = """
%body (st: (s32[], f32[64,128])) -> (s32[], f32[64,128]) {
  %st = (s32[], f32[64,128]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%st), index=0
  %v = f32[64,128]{1,0} get-tuple-element(%st), index=1
  %one = s32[]{:S(6)} constant(1)
  %m = s32[]{:S(6)} add(%n, %one)
  %w = f32[64,128]{1,0} negate(%v)
  ROOT %o = (s32[], f32[64,128]{1,0}) tuple(%m, %w)
}

%until (sc: (s32[], f32[64,128])) -> pred[] {
  %sc = (s32[], f32[64,128]{1,0}) parameter(0)
  %limit = s32[]{:S(6)} constant(5)
  %c = s32[] get-tuple-element(%sc), index=0
  ROOT %l = pred[]{:S(6)} compare(%c, %limit), direction=LT
}
"""
    head, entry = HEAD.split("ENTRY")
    line = "%a = (s32[], f32[64,128]{1,0}) while(%x), condition=%until, body=%body"
    program = hlo.Program(f"{head}{loop}\nENTRY{entry}  ROOT {line}\n}}\n")
    counters = 4 * 5  # its addition reads one from memory
    assert traffic.bytes_exchanged(program) == 5 * 2 * ARRAY + counters


def test_without_arrays_in_the_chips_own_memory_the_compiler_counts_as_much() -> None:
    required.module("libtpu")
    pods.prepare_environment()
    where = jax.sharding.SingleDeviceSharding(pods.describe("v5e:2x2").devices[0])

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = jax.nn.gelu(x @ weight.astype(jnp.bfloat16))
        return jnp.mean(jnp.square(x.astype(jnp.float32)))

    weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 3
    x = jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16)
    lowered = jax.jit(jax.grad(loss), in_shardings=where, out_shardings=where).lower(weights, x)
    far = lowered.compile({"xla_vf_vmem_memory_space_assignment": False})
    found = traffic.bytes_exchanged(hlo.Program(far.as_text()))
    assert found == pytest.approx(far.cost_analysis()["bytes accessed"], rel=0.02)
    near = traffic.bytes_exchanged(hlo.Program(lowered.compile().as_text()))
    assert near < 0.8 * found
