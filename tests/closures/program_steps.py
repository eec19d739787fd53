# Copyright 2026 The JAX Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     https://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Steps of random programs, in families of variants.

A variant is a function of a 3 x 3 matrix, of an environment, and of the bodies
of the step if it has some. Two variants of one family, in the same place, never
compute the same thing by the same operations, and every variant does something.
"""

import functools

import numpy as np

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import io_callback, xla_metadata

from rule_captures import (
    CELLS, Config, double, Equal, F32, FUNCTIONS, jvp_by, jvp_nondiff, RULES,
    vjp_by, vjp_nondiff)


def bits(pattern):
  return np.uint32(pattern).view(F32)

def over(fun, *values):
  return [functools.partial(lambda v, x, e, *fs: fun(x, e, v, *fs), v)
          for v in values]


# Steps without bodies: functions of the matrix `x` and of the environment `e`,
# which holds another argument `y` and the captured `c`, `d`, `i` and `key`.

def _conv(x, e, v):
  dims = v.pop() if v and not isinstance(v[-1], dict) else ('NCHW', 'OIHW',
                                                            'NCHW')
  out = lax.conv_general_dilated(
      x[None, None], e.y[None, None], (1, 1), 'SAME', dimension_numbers=dims,
      **(v[0] if v else {}))
  return out.reshape(9)[:9].reshape(3, 3) if out.size == 9 else x + out.sum()

def _callback(x, f):
  return jax.pure_callback(f, jax.ShapeDtypeStruct((3, 3), 'float32'), x,
                           vmap_method='sequential')

def _debug(x, message):
  jax.debug.callback(functools.partial(print, message), x)
  return 2. * x

def _io(x, v):
  return io_callback(np.sin, jax.ShapeDtypeStruct((3, 3), 'float32'), x,
                     ordered=v)

def _custom_vmap(x, e, v):
  f = jax.custom_batching.custom_vmap(lambda x: 2. * x)
  f.def_vmap(lambda size, batched, x: (x * v, True))
  return f(x)

def _solve(x, e, scale, **kwargs):
  a = e.c @ e.c.T
  kwargs.setdefault('transpose_solve', lambda _, b: b * 2.)
  return lax.custom_linear_solve(lambda v: a @ v, x, lambda _, b: b * scale,
                                 **kwargs)

def _loop(x, literal):
  # A literal of which only the type may tell what it is.
  def body(_, carry):
    x, y = carry
    return jnp.sin(x) + jnp.real(jnp.asarray(y)).astype('float32'), y
  return lax.fori_loop(0, 2, body, (x, literal))[0]

_probe_p = jax.extend.core.Primitive('probe')
_probe_p.def_abstract_eval(lambda x, **_: x)

SHAPES = [(3, 1), (1, 3), (3,), (1,), ()]

FAMILIES = dict(
    unary=over(lambda x, e, f: f(x), lax.sin, lax.cos, lax.tanh, lax.exp,
               lax.abs, lax.neg, lax.sign, lax.erf, lax.stop_gradient, lax.sqrt,
               lax.optimization_barrier, jnp.square, jnp.reciprocal),
    nn=over(lambda x, e, f: f(x), jax.nn.relu, jax.nn.silu, jax.nn.softplus,
            jax.nn.gelu, lambda x: jax.nn.gelu(x, approximate=False),
            jax.nn.relu6, jax.nn.elu, lambda x: jax.nn.elu(x, 2.),
            jax.nn.softmax, lambda x: jax.nn.softmax(x, axis=0),
            jax.nn.log_softmax),
    binary=over(lambda x, e, v: v[0](*[dict(vars(e), x=x)[n] for n in v[1]]), *[
        (f, n) for f in (lax.sub, lax.div, lax.pow, lax.atan2)
        for n in ('xy', 'yx', 'xc', 'cx', 'xd', 'dx', 'xx')]),
    commutative=over(lambda x, e, f: f(x, e.y), lax.add, lax.mul, lax.max,
                     lax.min, lambda x, y: lax.add(y, x)),
    select=over(lambda x, e, v: v(x, e.y),
                lambda x, y: jnp.where(x > 0, x, y),
                lambda x, y: jnp.where(x >= 0, x, y),
                lambda x, y: jnp.where(x > 0, y, x),
                lambda x, y: jnp.where(x > y, x, y),
                lambda x, y: jnp.where(x > 0, x, 0.),
                lambda x, y: jnp.where(x > 0, x, -0.),
                lambda x, y: jnp.clip(x, 0., 1.),
                lambda x, y: jnp.clip(x, -0., 1.),
                lambda x, y: lax.clamp(x, y, x),
                lambda x, y: lax.clamp(y, x, x)),
    literal=over(lambda x, e, v: lax.mul(x, jnp.broadcast_to(v, (3, 3))), *map(
        bits, (0, 0x80000000, 1, 2, 0x3f800000, 0x3f800001, 0xbf800000,
               0x7f800000, 0xff800000, 0x7fc00000, 0x7fc00001, 0xffc00000,
               0x7f800001))),
    scalar=over(lambda x, e, v: x * v, 0., -0., 2., 3., 5e-39, float('inf'),
                float('nan'), F32(7), F32(8)),
    integer=over(lambda x, e, v: x * (e.i[:, None] * v).astype('float32'),
                 0, 1, 2, -1,
                 np.int32(3)),
    typed=over(lambda x, e, v: _loop(x, v), 1, True, 1., 0, False, 0., -0., 1j,
               F32(1), np.int8(1), np.uint8(1)),
    convert=over(lambda x, e, v: x.astype(v).astype('float32'), 'int8', 'int16',
                 'int32', 'uint8', 'uint16', 'uint32', 'bfloat16', 'float16',
                 'bool'),
    bitcast=over(lambda x, e, v: lax.bitcast_convert_type(
        lax.bitcast_convert_type(x, v), 'float32'), 'int32', 'uint32'),
    param=over(lambda x, e, v: v(x), *[
        functools.partial(lambda f, v, x: f(x, *v), f, v) for f, vs in [
            (lax.integer_pow, [(2,), (3,), (-2,)]),
            (lax.reduce_precision, [(5, 3), (3, 5), (5, 5)]),
            (lax.transpose, [((1, 0),)]),
            (lax.rev, [((0,),), ((1,),), ((0, 1),)]),
            (lax.cumsum, [(0,), (1,), (0, True), (1, True)]),
            (lax.cumprod, [(0,), (1,)]), (lax.cummax, [(0,), (1,)]),
            (lax.cumlogsumexp, [(0,), (1,)]),
            (jnp.sort, [(0,), (1,)]), (jnp.roll, [(1, 0), (1, 1), (2, 0)]),
            (checkpoint_name, [('a',), ('b',)])] for v in vs]),
    sort=over(lambda x, e, v: lax.sort((x, e.y), **v)[0], dict(num_keys=1),
              dict(num_keys=2), dict(num_keys=1, is_stable=False),
              dict(num_keys=1, dimension=0)),
    reduce=over(lambda x, e, v: x * v[0](x, axis=v[1], keepdims=True), *[
        (f, a) for f in (jnp.sum, jnp.max, jnp.min, jnp.prod, jax.nn.logsumexp,
                         jnp.mean) for a in (0, 1, (0, 1))]),
    argreduce=over(lambda x, e, v: x * lax.argmax(x, *v)[:, None].astype(
        'float32'), (0, 'int32'), (1, 'int32'), (0, 'int16'), (1, 'uint32')),
    broadcast=over(lambda x, e, v: x * lax.broadcast_in_dim(e.y[0], (3, 3), v),
                   (0,), (1,)),
    iota=over(lambda x, e, v: x * lax.broadcasted_iota(*v).astype('float32'),
              ('int32', (3, 3), 0), ('int32', (3, 3), 1), ('int8', (3, 3), 0)),
    pad=over(lambda x, e, v: lax.pad(x, *v), (F32(0), [(1, -1, 0), (0, 0, 0)]),
             (F32(-0.), [(1, -1, 0), (0, 0, 0)]),
             (F32(0), [(-1, 1, 0), (0, 0, 0)]),
             (F32(0), [(0, 0, 0), (1, -1, 0)]),
             (F32(0), [(-1, -1, 1), (0, 0, 0)])),
    dot=over(lambda x, e, v: lax.dot_general(x, e.y, **v), *[
        dict(dimension_numbers=(((a,), (b,)), ((), ())), precision=p,
             preferred_element_type=t)
        for a in (0, 1) for b in (0, 1) for p, t in [
            (None, None), ('high', None), ('highest', None),
            (('high', 'highest'), None), (None, 'float32')]]),
    precision=over(lambda x, e, v: jax.default_matmul_precision(v)(jnp.dot)(
        x, e.y), 'float32', 'bfloat16', 'tensorfloat32'),
    einsum=over(lambda x, e, v: jnp.einsum(v, x, e.y, e.c), 'ij,jk,kl->il',
                'ij,kj,kl->il', 'ji,jk,kl->il', 'ij,ij,ij->ij', 'ij,ji,ij->ij',
                'ij,jk,lk->li', 'ij,jj,jj->ij'),
    conv=over(lambda x, e, v: _conv(x, e, list(v)), (),
              ({'precision': 'highest'},), ({'rhs_dilation': (2, 1)},),
              ({'rhs_dilation': (1, 2)},),
              ({}, ('NCHW', 'OIWH', 'NCHW')), ({}, ('NCWH', 'OIHW', 'NCHW'))),
    window=over(lambda x, e, v: lax.reduce_window(x, *v, (1, 1), 'SAME'), *[
        (F32(i), lax.max, d) for i in (0, -np.inf)
        for d in ((1, 2), (2, 1), (2, 2))], (F32(0), lax.min, (1, 2))),
    gather=over(lambda x, e, v: x * v(e.y, e.i),
                lambda y, i: y[i], lambda y, i: y[:, i],
                lambda y, i: y[i, i][:, None],
                lambda y, i: y.at[i].get(mode='fill', fill_value=0),
                lambda y, i: y.at[i].get(mode='fill', fill_value=-0.),
                lambda y, i: y.at[i].get(mode='fill', fill_value=1),
                lambda y, i: y.at[i].get(mode='clip'),
                lambda y, i: y.at[i].get(indices_are_sorted=True),
                lambda y, i: y.at[i].get(unique_indices=True),
                lambda y, i: jnp.take_along_axis(y, i[:, None], 0),
                lambda y, i: jnp.take_along_axis(y, i[:, None], 1),
                lambda y, i: lax.dynamic_index_in_dim(y, i[0], 0),
                lambda y, i: lax.dynamic_index_in_dim(y, i[0], 1),
                lambda y, i: lax.dynamic_index_in_dim(y, i[1], 1)),
    scatter=over(lambda x, e, v: v(x, e.y[0], e.i),
                 lambda x, y, i: x.at[i].set(y), lambda x, y, i: x.at[i].add(y),
                 lambda x, y, i: x.at[i].mul(y), lambda x, y, i: x.at[i].max(y),
                 lambda x, y, i: x.at[i].apply(jnp.sin),
                 lambda x, y, i: x.at[i].apply(jnp.cos),
                 lambda x, y, i: x.at[:, i].add(y),
                 lambda x, y, i: x.at[i].add(y, mode='clip'),
                 lambda x, y, i: x.at[i].add(y, unique_indices=True),
                 lambda x, y, i: x.at[1].set(y), lambda x, y, i: x.at[2].set(y),
                 *[functools.partial(
                     lambda d, x, y, i: lax.dynamic_update_index_in_dim(
                         x, y, i[0], d), d) for d in (0, 1)]),
    slice=over(lambda x, e, v: x * v(e.y), lambda y: y[:1], lambda y: y[1:2],
               lambda y: y[:, :1], lambda y: y[::2][:1],
               lambda y: y[0][None],
               lambda y: y[0, 1]),
    fft=over(lambda x, e, v: v[0](x, axis=v[1]).real, *[
        (f, a) for f in (jnp.fft.fft, jnp.fft.ifft) for a in (0, 1)]),
    random=over(lambda x, e, v: x * v(e.key),
                *[functools.partial(lambda f, s, k: f(k, s, 'float32'), f, s)
                  for s in SHAPES[:2] for f in (jax.random.uniform,
                                                jax.random.normal)],
                *[functools.partial(lambda n, k: jax.random.uniform(
                    jax.random.fold_in(k, n), (), 'float32'), n)
                  for n in (0, 1)],
                *[functools.partial(lambda n, k: jax.random.uniform(
                    jax.random.key(n, impl='rbg'), (), 'float32'), n)
                  for n in (0, 1)],
                lambda k: jax.random.uniform(jax.random.split(k)[0], (),
                                             'float32'),
                lambda k: jax.random.bits(k, (), 'uint32').astype('float32'),
                lambda k: jax.random.bits(k, (), 'uint8').astype('float32')),
    linalg=over(lambda x, e, v: v(x, e.y), jnp.linalg.solve,
                lambda x, y: jnp.linalg.cholesky(x),
                lambda x, y: jnp.linalg.cholesky(x, upper=True),
                lambda x, y: jnp.linalg.qr(x)[0],
                lambda x, y: jnp.linalg.qr(x)[1],
                lambda x, y: jnp.linalg.svd(x)[0],
                lambda x, y: jnp.linalg.eigh(x)[1],
                lambda x, y: jnp.linalg.eigh(x, UPLO='U')[1],
                lambda x, y: jnp.linalg.inv(x),
                lambda x, y: x * jnp.linalg.det(x),
                *[functools.partial(lambda k, x, y: lax.linalg.triangular_solve(
                    x, y, **k), k) for k in ({}, dict(left_side=True), dict(
                        lower=True), dict(transpose_a=True), dict(
                            unit_diagonal=True))]),
    solve=over(lambda x, e, v: _solve(x, e, v[0], **v[1]), (2., {}), (3., {}),
               (2., dict(symmetric=True)),
               (2., dict(transpose_solve=lambda _, b: b * 3.))),
    constant=over(lambda x, e, v: x * v, *[
        make(v) for make in (np.asarray, lambda v: jnp.asarray(v) + 5)
        for v in (
            np.full((3, 3), 2, 'float32'), np.full((3, 3), 3, 'float32'),
            np.zeros((3, 3), 'float32'), np.ones((3, 1), 'float32'),
            np.ones((1, 3), 'float32'))],
        np.full((3, 3), -0., 'float32'), np.full((3, 3), bits(0x7fc00000)),
        np.full((3, 3), bits(0x7fc00001))),
    big_constant=over(lambda x, e, v: x * jnp.sum(v), *[
        make(v) for make in (np.asarray, lambda v: jnp.asarray(v) + 5)
        for v in (np.ones(99, 'float32'), np.full(99, 2, 'float32'),
                  np.ones((99, 1), 'float32'), np.ones(98, 'float32'))]),
    metadata=over(lambda x, e, v: v(x), *[
        functools.partial(lambda v, x: xla_metadata.set_xla_metadata(
                            **v)(lax.sin)(x), v)
        for v in (dict(a='1'), dict(a='2'), dict(b='1'))]),
    probe=over(lambda x, e, v: _probe_p.bind(x, **v), {}, dict(a=1), dict(b=1),
               dict(a=1, b=2), dict(a=2, b=1), *[dict(a=v) for v in (
                   True, 1., 0., -0., 0, False, double(0x7ff8000000000000),
                   double(0x7ff8000000000001), '1', (1,), (True,), (1., -0.),
                   (1., 0.), F32(1), np.dtype('float32'), 'float32', Config(0.),
                   Config(-0.), None, frozenset([0.]), frozenset([-0.]),
                   Equal(1), Equal(2))]),
    callback=over(lambda x, e, v: _callback(x, lambda x, v=v: v(x)),
                  np.sin, np.cos)
    + over(lambda x, e, v: _callback(x, v), np.sin, np.cos, np.tan),
    effect=over(lambda x, e, v: _debug(x, v), 'a', 'b') + over(
        lambda x, e, v: _io(x, v), True, False),
    rule=over(lambda x, e, f: f(x), *RULES),
    vmap_rule=over(_custom_vmap, 2., 3., True),
    linear_call=over(lambda x, e, v: jax.custom_derivatives.linear_call(
        lambda r, x: x * v[0], lambda r, x: x * v[1], (), x),
                     (2., 2.), (3., 2.), (2., 3.)),
    reducer=over(lambda x, e, v: x * lax.reduce(x, *v)[None], *[
        (F32(i), f, (d,)) for i in (0., -0., 1.) for d in (0, 1) for f in (
            lambda x, y: x + y * 2., lambda x, y: x + y * 3.)]),
    jvp_cell=over(lambda x, e, v: jvp_by(v)(x), *CELLS),
    fwd_cell=over(lambda x, e, v: vjp_by(v, 1)(x), *CELLS),
    bwd_cell=over(lambda x, e, v: vjp_by(2, v)(x), *CELLS),
    jvp_function=over(lambda x, e, v: jvp_by(1, v)(x), *FUNCTIONS),
    bwd_function=over(lambda x, e, v: vjp_by(1, 1, v)(x), *FUNCTIONS),
    nondiff=over(lambda x, e, v: v[0](v[1], x), *[
        (f, n) for f in (jvp_nondiff, vjp_nondiff) for n in (1, 2, 0., -0.)]),
    nondiff_type=over(lambda x, e, v: v[0](v[1], x), *[
        (f, n) for f in (jvp_nondiff, vjp_nondiff) for n in (3, True, 3.)]),
)


# Steps with bodies: functions of `x`, `e`, and the functions that bodies are.

def _custom(x, e, kind, f):
  if kind == 'jvp':
    fun = jax.custom_jvp(lambda x: f(x))
    fun.defjvp(lambda ps, ts: (f(*ps), 2. * ts[0]))
  elif kind == 'vjp':
    fun = jax.custom_vjp(lambda x: f(x))
    fun.defvjp(lambda x: (f(x), None), lambda _, g: (2. * g,))
  elif kind == 'jvp_rule':
    fun = jvp_by(1, f)
  else:
    fun = vjp_by(1, 1, f)
  return fun(x)

def _scan(x, e, v, f):
  def body(x, y):
    return f(x) + y[None], x[0]
  x, ys = lax.scan(body, x, e.y, **v)
  return x + ys

def _while(x, e, v, f):
  return lax.while_loop(lambda s: v[0](s[0]) if v[1] else s[1] < 3,
                        lambda s: (f(s[0]), s[1] + v[2]), (x, 0))[0]

def _vjp(x, e, v, f):
  out, pull = jax.vjp(f, x)
  return out + (pull(e.y)[0] if v else jax.grad(lambda x: f(x).sum())(x))

def _jvp(x, e, v, f):
  if v == 'jacfwd':
    return x + jax.jacfwd(f)(x).sum((2, 3))
  if v == 'jacrev':
    return x + jax.jacrev(f)(x).sum((2, 3))
  return sum(jax.jvp(f, (x,), (e.y,)))

def _root(x, e, v, f):
  return lax.custom_root(lambda z: f(z) - x, x, lambda f, z: f(z) * v[0],
                         lambda g, y: y / g(jnp.ones_like(y)) * v[1])

_policies = jax.checkpoint_policies

COMBINATORS = dict(
    jit=over(lambda x, e, v, f: jax.jit(f, **v)(x), {},
             dict(keep_unused=True)),
    scan=over(_scan, {}, dict(reverse=True), dict(unroll=3)),
    fori=over(lambda x, e, v, f: lax.fori_loop(*v, lambda _, x: f(x), x),
              (0, 2), (0, 3), (1, 2)),
    loop=over(_while, (0, False, 1), (0, False, 2),
              (lambda x: x[0, 0] < 3, 1, 1),
              (lambda x: x[0, 0] <= 3, 1, 1), (lambda x: x[0, 1] < 3, 1, 1),
              (lambda x: x[0, 0] < 4, 1, 1)),
    map=over(lambda x, e, v, f: lax.map(
        lambda y: f(x * y[None])[0], e.y, **v), {}, dict(batch_size=3)),
    associative=over(lambda x, e, v, f: f(lax.associative_scan(*v, x)),
                     (lax.add,), (lax.mul,)),
    cond=over(lambda x, e, v, f, g: lax.cond(v(x), f, g, x),
              lambda x: x[0, 0] > 0,
              lambda x: x[0, 0] < 0, lambda x: x[1, 0] > 0),
    switch=over(lambda x, e, v, f, g: lax.switch(e.i[v[0]], v[1](f, g), x),
                (0, lambda f, g: [f, g]), (1, lambda f, g: [f, g]),
                (0, lambda f, g: [f, g, f]), (0, lambda f, g: [g, f, f])),
    remat=over(lambda x, e, v, f: jax.checkpoint(f, **v)(x), {},
               dict(prevent_cse=False), dict(policy=_policies.dots_saveable),
               dict(policy=_policies.everything_saveable)),
    named=over(lambda x, e, v, f: jax.checkpoint(
        f, policy=_policies.save_only_these_names(*v))(x), 'a', 'b', 'ab'),
    custom=over(_custom, 'jvp', 'vjp', 'jvp_rule', 'vjp_rule'),
    root=over(_root, (2., 2.), (3., 2.), (2., 3.)),
    linear=over(lambda x, e, v, f: jax.linear_transpose(
        lambda x: x * f(e.y), x)(x)[0], 0),
    # Whose bodies are made of `TRANSFORMED` alone.
    vmap=over(lambda x, e, v, f: jax.vmap(f, in_axes=v)(
        jnp.stack([x, e.y], v))[0], 0, 1, 2),
    vjp=over(_vjp, 0, 1),
    jvp=over(_jvp, 'jacfwd', 'jacrev', 'jvp'),
)

TRANSFORMED = ('unary', 'nn', 'binary', 'commutative', 'select', 'literal',
                'scalar', 'integer', 'reduce', 'broadcast', 'dot', 'slice',
                'constant')
TRANSFORMING = ('vmap', 'vjp', 'jvp', 'root', 'custom', 'map', 'linear')

# Families of which two fresh functions need not be known to be the same, because
# each makes its rule or callback anew, or JAX wraps it so (`optimize_remat`).
UNSTABLE = frozenset([
    'callback', 'jvp_cell', 'fwd_cell', 'bwd_cell', 'jvp_function',
    'bwd_function', 'vmap_rule', 'linear_call', 'custom', 'rule'])
