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

A variant is a function of a 3 x 3 matrix, of an environment with the argument
`y` and the captured `c`, `d`, `i` and `key`, and of the bodies of the step. It
returns a matrix of the same type. No two variants of one family compute the
same thing by the same operations. A key reads the parameters of a primitive by
their types, so there are variants for each type of parameter, and few for each
primitive.
"""

import collections
import functools

import numpy as np

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name, checkpoint_policies
from jax.experimental import io_callback, xla_metadata

from called_functions import CALLED


# Values that differ, although many of them compare equal.

def bits(pattern):
  return np.uint32(pattern).view('float32')

class Equal:
  """Equals every other."""
  def __init__(self, scale):
    self.scale = scale
  def __eq__(self, other):
    return True
  def __hash__(self):
    return 0
  def method(self, x=1.):
    return self.scale * x
  def other(self):
    return self

_EQUAL = Equal(2)

Pair = collections.namedtuple('Pair', 'a b')
Riap = collections.namedtuple('Riap', 'a b')

class Silent(Pair):
  """Has items that its iteration does not yield."""
  __slots__ = ()
  __iter__ = lambda self: iter(())

def two_of_a_subclass(value):
  # They are equal, and can have different attributes.
  subclass = type('Subclass', (type(value),), {})
  return subclass(value), subclass(value)

NUMBERS = [0., -0., 0, False, 1., 1, True, 1j, 2., float('inf'), float('nan'),
           bits(0), bits(0x80000000), bits(0x7fc00000), bits(0x7fc00001),
           np.float16(1), np.float32(1), np.int8(1), np.uint8(1), np.int32(1)]
OBJECTS = [*NUMBERS, np.uint64(0x7ff8000000000001).view('float64').item(),
           None, 'a', 'b', b'a', (1,), (True,), (1., 0.), (1., -0.), {1: 1},
           {True: 1}, {1: 2}, frozenset([0.]), frozenset([-0.]), Pair(1, 2),
           Riap(1, 2), Equal(1), _EQUAL, Equal(1).method, _EQUAL.method,
           _EQUAL.other,
           functools.partial(max, 1), functools.partial(max, True),
           functools.partial(max, key=1), np.dtype('float32'), float, int,
           Silent(1, 2), Silent(1, 3), *two_of_a_subclass(1.),
           *two_of_a_subclass(1j), *two_of_a_subclass(b'a'),
           *two_of_a_subclass((1,)), *two_of_a_subclass(frozenset([1]))]
ARRAYS = [np.full((3, 3), v, 'float32')
          for v in (0., -0., 2., 3., bits(0x7fc00000), bits(0x7fc00001))] + [
    np.ones((3, 1), 'float32'), np.ones((1, 3), 'float32'),
    np.ones((1, 3), 'int32'), *[
        np.arange(9999).reshape(1111, 3, 3) // n for n in (9999, 9998)]]


_CONSTANTS = dict(numpy=ARRAYS[2], jax=jnp.array(ARRAYS[2] + 1))

# Custom rules.

def double(x):
  return 2. * x

def identity(x):
  return x

def with_jvp(rule, fun=double, **options):
  f = jax.custom_jvp(lambda x: fun(x))
  f.defjvp(lambda ps, ts: (fun(*ps), rule(ts[0])), **options)
  return f

def with_vjp(save, rule, fun=double, **options):
  f = jax.custom_vjp(lambda x: fun(x))
  f.defvjp(lambda x: (fun(x), save(x)), lambda r, g: (rule(g),), **options)
  return f

_RULES = [
    make(*rules, symbolic_zeros=zeros) for zeros in (False, True)
    for make, *rules in [
        (with_jvp, identity), (with_jvp, jnp.sin), (with_vjp, double, identity),
        (with_vjp, identity, jnp.sin), (with_vjp, jnp.sin, identity)]]

_jvp_nondiff = jax.custom_jvp(lambda n, x: 2. * x, nondiff_argnums=0)
_jvp_nondiff.defjvp(lambda n, ps, ts: (2. * ps[0], n * ts[0]))
_vjp_nondiff = jax.custom_vjp(lambda n, x: 2. * x, nondiff_argnums=0)
_vjp_nondiff.defvjp(lambda n, x: (2. * x, None), lambda n, r, g: (n * g,))

_shared_rule = lambda ps, ts: (ps[0], ts[0])

def _with_shared_rule(fun, x):
  f = jax.custom_jvp(fun)
  f.defjvp(_shared_rule)
  return f(x)

def _vmap_rule(x, e, v):
  f = jax.custom_batching.custom_vmap(double)
  f.def_vmap(lambda size, batched, x: (x * v, True))
  return f(x)

# Steps without bodies.

def over(fun, *values):
  return [functools.partial(lambda v, x, e, *fs: fun(x, e, v, *fs), v)
          for v in values]

def calls(fun, *args):
  """Returns a function of one argument for each tuple of more arguments."""
  return [functools.partial(lambda a, x: fun(x, *a), a) for a in args]

def _loop(x, literal):
  # A literal that its value or its type alone tells from others.
  def body(_, carry):
    x, y = carry
    return jnp.sin(x) + jnp.real(jnp.asarray(y)).astype('float32'), y
  return lax.fori_loop(0, 2, body, (x, literal))[0]

_probe_p = jax.extend.core.Primitive('probe')
_probe_p.def_abstract_eval(lambda x, **_: x)
_TYPE = jax.ShapeDtypeStruct((3, 3), 'float32')
_callback = lambda x, f: jax.pure_callback(
    f, _TYPE, x, vmap_method='sequential')

STEPS = dict(
    unary=over(
        lambda x, e, f: f(x), lax.sin, lax.cos, lax.neg, lax.stop_gradient,
        lax.optimization_barrier, jax.nn.relu, jax.nn.silu, jax.nn.softplus,
        *calls(jax.nn.gelu, (True,), (False,)), *calls(jax.nn.elu, (), (2.,)),
        *calls(jax.nn.softmax, (0,), (1,))),
    binary=over(lambda x, e, v: v[0](*[dict(vars(e), x=x)[n] for n in v[1]]), *[
        (f, n) for f in (lax.sub, lax.add, lax.atan2)
        for n in ('xy', 'yx', 'xc', 'cx', 'xd', 'xx')]),
    scalar=over(lambda x, e, v: x * v, 0., -0., 2., 5e-39, float('nan'),
                np.float32(7)),
    literal=over(lambda x, e, v: _loop(x, v), *NUMBERS),
    constant=over(lambda x, e, v: x * jnp.sum(v * e.y, 0), *ARRAYS),
    captured=over(lambda x, e, v: x * getattr(e, v, _CONSTANTS.get(v)),
                  'c', 'd', *_CONSTANTS),
    array_of_jax=over(lambda x, e, v: x * v, *map(jnp.asarray, ARRAYS[2:6])),
    param=over(
        lambda x, e, f: f(x), *calls(lax.integer_pow, (2,), (3,)),
        *calls(lax.reduce_precision, (5, 3), (3, 5)),
        *calls(lax.rev, ((0,),), ((1,),)), *calls(jnp.sort, (0,), (1,)),
        *calls(lax.cumsum, (0,), (1,), (0, True)), jnp.transpose,
        *calls(checkpoint_name, ('a',), ('b',)),
        *calls(lambda x, t: x.astype(t).astype('float32'), *[
            (t,) for t in ('int8', 'int32', 'uint32', 'bfloat16', 'bool')]),
        *calls(lambda x, t: lax.bitcast_convert_type(lax.bitcast_convert_type(
            x, t), 'float32'), ('int32',), ('uint32',)),
        *calls(lax.pad, *[(bits(b), [d, (0, 0, 0)]) for b in (0, 0x80000000)
                          for d in ((1, -1, 0), (-1, 1, 0))]),
        *calls(lambda x, *v: lax.reduce_window(x, *v, (1, 1), 'SAME'), *[
            (bits(b), f, d) for f in (lax.max, lax.min) for b in (0, 1)
            for d in ((1, 2), (2, 1))]),
        *calls(lambda x, f, i: f(x, axis=i).real, *[
            (f, i) for f in (jnp.fft.fft, jnp.fft.ifft) for i in (0, 1)])),
    factor=over(
        lambda x, e, f: x * f(e.y).astype('float32'),
        *calls(lambda x, f, axis: f(x, axis), *[
            (f, axis) for f in (jnp.sum, jnp.max, jax.nn.logsumexp)
            for axis in (0, 1)]),
        *calls(lambda x, i, f: lax.reduce(x, bits(i), f, [0]), *[
            (i, f) for i in (0, 0x80000000) for f in (
                lambda x, y: x + y * 2., lambda x, y: x + y * 3.)]),
        *calls(lax.argmax, (0, 'int32'), (1, 'int32'), (0, 'int16')),
        *calls(lambda x, d: lax.broadcast_in_dim(x[0], (3, 3), d), ((0,),),
               ((1,),)),
        *calls(lambda x, t, d: lax.broadcasted_iota(t, (3, 3), d),
               *[(t, d) for t in ('int8', 'int32') for d in (0, 1)]),
        lambda y: y[:1], lambda y: y[1:2], lambda y: y[:, :1], lambda y: y[0]),
    dot=over(lambda x, e, v: lax.dot_general(x, e.y, *v), *[
        ((((a,), (b,)), ((), ())), p, t) for a in (0, 1) for b in (0, 1)
        for p, t in [(None, None), ('high', None), (('high', 'highest'), None),
                     (None, 'float32')]]),
    gather=over(
        lambda x, e, v: x * e.y.at[e.i].get(**v), {}, dict(mode='clip'),
        dict(indices_are_sorted=True), *[dict(mode='fill', fill_value=v)
                                         for v in (0, 1, -0.)]) + over(
        lambda x, e, v: x * lax.dynamic_index_in_dim(e.y, e.i[v[0]], v[1]),
        (0, 0), (0, 1), (1, 0)) + over(lambda x, e, _: x * e.y[:, e.i], 0),
    scatter=over(lambda x, e, f: f(x.at[e.i], e.y[0]),
                 lambda x, y: x.set(y), lambda x, y: x.add(y),
                 lambda x, y: x.apply(jnp.sin), lambda x, y: x.apply(jnp.cos),
                 lambda x, y: x.add(y, mode='clip')),
    random=over(lambda x, e, f: x * f(e.key).astype('float32'), *calls(
        jax.random.bits, *[((), t) for t in ('uint8', 'uint32')])) + over(
        lambda x, e, f: x * jax.random.uniform(f(e.key), (), 'float32'),
        identity, jax.random.clone, *calls(jax.random.fold_in, (0,), (1,)),
        *calls(lambda _, seed, impl: jax.random.key(seed, impl=impl),
               (0, 'rbg'), (1, 'rbg'), (1, 'unsafe_rbg'))),
    solve=over(lambda x, e, v: lax.custom_linear_solve(
        lambda x: x @ e.c, x, *[
            functools.partial(lambda u, f, b: b * u, u) for u in v]),
               (2., 2.), (3., 2.), (2., 3.)),
    called=over(lambda x, e, f: f(x), *CALLED.values()),
    metadata=over(lambda x, e, v: xla_metadata.set_xla_metadata(
        **v)(lax.sin)(x), dict(a='1'), dict(a='2'), dict(b='1')),
    probe=over(lambda x, e, v: _probe_p.bind(x, **v), {}, dict(a=1, b=2),
               dict(a=2, b=1), dict(b=1), *[dict(a=v) for v in OBJECTS]),
    callback=over(lambda x, e, f: _callback(x, f), np.sin, np.cos),
    effect=over(lambda x, e, v: jax.debug.callback(
        functools.partial(print, v), x) or 2. * x, 'a', 'b') + over(
        lambda x, e, v: io_callback(np.sin, _TYPE, x, ordered=v), True, False),
    rule=over(lambda x, e, f: f(x), *_RULES),
    nondiff=over(lambda x, e, v: v[0](v[1], x), *[
        (f, n) for f in (_jvp_nondiff, _vjp_nondiff) for n in NUMBERS]),
    primal=over(
        lambda x, e, f: _with_shared_rule(f, x), lambda x: 2. * x,
        lambda x: 3. * x, *[(lambda c: lambda x: c * x)(c) for c in map(
            jnp.asarray, ARRAYS[2:4])]),
    linear_call=over(lambda x, e, v: jax.custom_derivatives.linear_call(
        lambda r, x: x * v[0], lambda r, x: x * v[1], (), x),
                     (2., 2.), (3., 2.), (2., 3.)),
    vmap_rule=over(_vmap_rule, 2., 3.),
    fresh_rule=over(lambda x, e, v: with_jvp(lambda t: v * t)(x), 1, True,
                    *ARRAYS[:3]) + over(
        lambda x, e, v: with_vjp(v.method, lambda g, v=v: v.scale * g)(x),
        *map(Equal, (1, 2))),
    fresh_callback=over(
        lambda x, e, f: _callback(x, lambda x: f(x)), np.sin, np.cos),
)


# Steps with bodies, which are functions of a matrix.

def _scan(x, e, v, f):
  x, ys = lax.scan(lambda x, y: (f(x) + y[None], x[0]), x, e.y, **v)
  return x + ys

COMBINATORS = dict(
    jit=over(lambda x, e, v, f: jax.jit(f, keep_unused=v)(x), False, True),
    scan=over(_scan, {}, dict(reverse=True), dict(unroll=3)),
    fori=over(lambda x, e, v, f: lax.fori_loop(*v, lambda _, x: f(x), x),
              (0, 2), (0, 3), (1, 2)),
    loop=over(lambda x, e, f, g: lax.while_loop(
        lambda s: f(*s), lambda s: (g(s[0]), s[1] + 1), (x, 0))[0],
              lambda x, i: i < 3, lambda x, i: i <= 3,
              lambda x, i: x[0, 0] < 3, lambda x, i: x[0, 1] < 3),
    map=over(lambda x, e, v, f: lax.map(lambda y: f(x * y[None])[0], e.y, **v),
             {}, dict(batch_size=3)),
    cond=over(lambda x, e, v, f, g: lax.cond(x[v] > 0, f, g, x),
              (0, 0), (1, 0)),
    switch=over(lambda x, e, v, f, g: lax.switch(e.i[v[0]], v[1](f, g), x),
                (0, lambda f, g: [f, g]), (1, lambda f, g: [f, g]),
                (0, lambda f, g: [f, g, f]), (0, lambda f, g: [g, f, f])),
    remat=over(lambda x, e, v, f: jax.checkpoint(f, **v)(x), {}, dict(
        prevent_cse=False), *[dict(policy=p) for p in (
            checkpoint_policies.dots_saveable,
            checkpoint_policies.everything_saveable, *[
                checkpoint_policies.save_only_these_names(*n)
                for n in ('a', 'b', 'ab')])]),
    custom=over(lambda x, e, v, f: v(f)(x), lambda f: with_jvp(jnp.sin, f),
                with_jvp, lambda f: with_vjp(jnp.cos, jnp.sin, f),
                lambda f: with_vjp(identity, f)),
    root=over(lambda x, e, v, f: lax.custom_root(
        lambda z: f(z) - x, x, lambda f, z: f(z) * v[0],
        lambda g, y: y / g(jnp.ones_like(y)) * v[1]),
              (2., 2.), (3., 2.), (2., 3.)),
    linear=over(lambda x, e, v, f: jax.linear_transpose(
        lambda x: x * f(e.y), x)(x)[0], 0),
    vmap=over(lambda x, e, v, f: jax.vmap(f, in_axes=v)(
        jnp.stack([x, e.y], v))[0], 0, 1, 2),
    derivative=over(
        lambda x, e, v, f: f(x) + v(f, x, e.y),
        lambda f, x, y: jax.vjp(f, x)[1](y)[0],
        lambda f, x, y: jax.grad(lambda x: f(x).sum())(x),
        lambda f, x, y: jax.jacfwd(f)(x).sum((2, 3)),
        lambda f, x, y: jax.jacrev(f)(x).sum((2, 3)),
        lambda f, x, y: jax.jvp(f, (x,), (x,))[1]),
)

# Whose bodies are made of `TRANSFORMED` alone.
TRANSFORMING = 'vmap', 'derivative', 'root', 'custom', 'map', 'linear'
TRANSFORMED = 'unary', 'binary', 'scalar', 'constant', 'dot'
# These make a rule or a callback anew, which is known by identity.
UNSTABLE = 'fresh_rule', 'fresh_callback', 'vmap_rule', 'linear_call', 'custom'
