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

"""Functions traced with every value that they captured made an argument."""

from collections.abc import Callable, Sequence
import functools
import types
from typing import Any
import weakref

from jax._src import config
from jax._src import core
from jax._src import linear_util as lu
from jax._src import traceback_util
from jax._src.api_util import debug_info, flatten_fun
from jax._src.interpreters import partial_eval as pe
from jax._src.tree_util import (
    keystr, tree_flatten, tree_flatten_with_path, tree_unflatten, PyTreeDef)
from jax._src.util import safe_map, safe_zip, split_list
from jax_patch import function_tree
from jax_patch import jaxpr_pickle
from jax_patch import structural_key


traceback_util.register_exclusion(__file__)

map = safe_map
zip = safe_zip


class ConstFreeFunction:
  # A traced function that takes the values which it captured after its
  # positional arguments; its jaxpr takes them first. It compares by structure.

  def __init__(self, jaxpr: core.Jaxpr, num_consts: int, in_tree: PyTreeDef,
               in_avals: tuple[core.AbstractValue, ...], out_tree: PyTreeDef):
    self.jaxpr = jaxpr
    self.num_consts = num_consts
    self.in_tree = in_tree
    self.in_avals = in_avals
    self.out_tree = out_tree

  @functools.cached_property
  def _key(self):
    return (self.num_consts, structural_key.tree_key(self.in_tree),
            structural_key.tree_key(self.out_tree),
            structural_key.jaxpr_key(self.jaxpr))

  @functools.cached_property
  def _hash(self):
    return hash(self._key)

  def __hash__(self):
    return self._hash

  def __eq__(self, other):
    return self is other or (isinstance(other, ConstFreeFunction) and
                             self._hash == other._hash and
                             self._key == other._key)

  def __repr__(self):
    # Treedefs show it, and compare as text too. See `structural_key.tree_key`.
    return f"ConstFreeFunction({self.jaxpr.debug_info.func_name})"

  def __deepcopy__(self, memo):
    return self  # Nothing in it ever changes.

  def __reduce__(self):
    return _load, (jaxpr_pickle.dumps(self.jaxpr), self.num_consts,
                   self.in_tree, self.out_tree)

  @property
  def const_avals(self):
    invars = [*self.jaxpr.constvars, *self.jaxpr.invars]
    return [v.aval for v in invars[:self.num_consts]]

  @property
  def out_avals(self):
    return tree_unflatten(self.out_tree, [v.aval for v in self.jaxpr.outvars])

  def __call__(self, *args_consts, **kwargs):
    in_flat, consts = flatten_args(
        self.in_tree, self.num_consts, args_consts, kwargs)
    return self.call_flat(consts, in_flat)

  def call_flat(self, consts: Sequence[Any], in_flat: Sequence[Any]):
    n = len(self.jaxpr.constvars)
    out_flat = core.eval_jaxpr(self.jaxpr, consts[:n], *consts[n:], *in_flat)
    return tree_unflatten(self.out_tree, out_flat)

def _load(data: bytes, num_consts: int, in_tree: PyTreeDef,
          out_tree: PyTreeDef) -> ConstFreeFunction:
  jaxpr = jaxpr_pickle.loads(data)
  num_invars = num_consts - len(jaxpr.constvars)
  in_avals = tuple(v.aval for v in jaxpr.invars[num_invars:])
  return ConstFreeFunction(jaxpr, num_consts, in_tree, in_avals, out_tree)

def trace(fun: Callable, in_tree: PyTreeDef,
          in_avals: tuple[core.AbstractValue, ...]
          ) -> tuple[ConstFreeFunction, list[Any]]:
  """Traces a function, and makes everything that it captures an argument.

  Args:
    fun: the function.
    in_tree: the structure of its positional and keyword arguments,
      ``(args, kwargs)``.
    in_avals: the types of their leaves.

  Returns:
    The function made free of constants, and the values that it captured.
  """
  debug = debug_info("closure_convert", fun, *tree_unflatten(in_tree, in_avals))
  flat_fun, out_tree = flatten_fun(lu.wrap_init(fun, debug_info=debug), in_tree)
  jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(flat_fun, in_avals)[:3]
  code = ConstFreeFunction(jaxpr, len(consts), in_tree, in_avals, out_tree())
  return code, consts

def trace_inlining(fun: Callable, in_tree: PyTreeDef,
                   in_avals: tuple[core.AbstractValue, ...]
                   ) -> tuple[ConstFreeFunction, list[Any]]:
  """Like :func:`trace`, and reaches what jitted functions inside captured.

  JAX keeps concrete arrays that a jitted function captured in the program of
  that function. Where there are some, the program is inlined, also into the
  bodies of loops and conditionals.
  """
  code, consts = trace(fun, in_tree, in_avals)
  if not _has_jitted_consts(code.jaxpr):
    return code, consts
  def inlined(*args, **kwargs):
    in_flat, _ = tree_flatten((args, kwargs))
    return tree_unflatten(
        code.out_tree, _eval_inlining(code.jaxpr, [*consts, *in_flat]))
  inlined.__wrapped__ = fun  # Gives it its name.
  return trace(inlined, in_tree, in_avals)

def _bodies(eqn: core.JaxprEqn) -> list[core.Jaxpr]:
  # The programs in an equation that can be replaced.
  name, params = eqn.primitive.name, eqn.params
  if name in ("jit", "pjit") or name == "scan" and not eqn.effects:
    return [params["jaxpr"]]
  if eqn.effects:
    return []
  if name in ("checkpoint", "remat2") and not params["differentiated"]:
    return [params["jaxpr"]]
  if name == "while" and not params["cond_jaxpr"].out_avals[0].shape:
    return [params["cond_jaxpr"], params["body_jaxpr"]]
  if name == "cond" and not params.get("branches_platforms"):
    return list(params["branches"])
  return []

def _has_jitted_consts(jaxpr: core.Jaxpr) -> bool:
  return any(getattr(body, "consts", ()) or _has_jitted_consts(body)
             for eqn in jaxpr.eqns for body in _bodies(eqn))

def _eval_inlining(jaxpr: core.Jaxpr, args: Sequence[Any]) -> list[Any]:
  consts = getattr(jaxpr, "consts", None) or ()
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args]))
  read = lambda a: a.val if isinstance(a, core.Literal) else env[a]
  for eqn in jaxpr.eqns:
    if any(getattr(body, "consts", ()) or _has_jitted_consts(body)
           for body in _bodies(eqn)):
      with eqn.ctx.manager:
        outs = _eval_body_inlining(eqn, map(read, eqn.invars))
    else:
      invars = list(dict.fromkeys(
          a for a in eqn.invars if not isinstance(a, core.Literal)))
      outs = core.eval_jaxpr(
          jaxpr.replace(constvars=[], invars=invars, eqns=[eqn],
                        outvars=eqn.outvars,
                        debug_info=jaxpr.debug_info.with_unknown_names()),
          (), *map(read, invars))
    env.update(zip(eqn.outvars, outs))
  return map(read, jaxpr.outvars)

def _eval_body_inlining(eqn: core.JaxprEqn, args: list[Any]) -> list[Any]:
  # What traces these bodies makes what they capture an operand.
  from jax._src.ad_checkpoint import checkpoint
  from jax._src.lax import control_flow
  name, params = eqn.primitive.name, eqn.params
  if name == "scan":
    # Along what a body consumes and produces there is one more axis outside.
    rank = lambda aval: len(getattr(aval, "shape", ()))
    num_xs, num_ys = [
        sum(rank(v.aval) > rank(aval) for v, aval in zip(outer, inner))
        for outer, inner in [(eqn.invars, params["jaxpr"].in_avals),
                             (eqn.outvars, params["jaxpr"].out_avals)]]
    num_carry = len(eqn.outvars) - num_ys
    consts, init, xs = split_list(
        args, [len(args) - num_xs - num_carry, num_carry])
    def body(carry, x):
      outs = _eval_inlining(params["jaxpr"], [*consts, *carry, *x])
      return tuple(split_list(outs, [len(carry)]))
    options = {k: params[k] for k in (
        "length", "reverse", "unroll", "_split_transpose") if k in params}
    carry, ys = control_flow.scan(body, init, xs, **options)
    return [*carry, *ys]
  if name == "while":
    cond_consts, body_consts, init = split_list(
        args, [params["cond_nconsts"], params["body_nconsts"]])
    return control_flow.while_loop(
        lambda s: _eval_inlining(params["cond_jaxpr"], [*cond_consts, *s])[0],
        lambda s: _eval_inlining(params["body_jaxpr"], [*body_consts, *s]),
        init)
  if name == "cond":
    branches = [functools.partial(_eval_inlining, b) for b in _bodies(eqn)]
    return control_flow.switch(args[0], branches, args[1:])
  evaluate = functools.partial(_eval_inlining, params["jaxpr"])
  if name in ("checkpoint", "remat2"):
    evaluate = checkpoint(evaluate, prevent_cse=params["prevent_cse"],
                          policy=params["policy"])
  return evaluate(args)

# What was traced, for each function or owner of methods that compares by
# identity, and the state of the latter at that time.
_traced: weakref.WeakKeyDictionary[Callable, dict] = (
    weakref.WeakKeyDictionary())

def hoist_consts(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any],
                 trace: Callable = trace
                 ) -> tuple[ConstFreeFunction, list[Any]]:
  """Makes everything that a function captures an argument.

  Args:
    fun: the function. If it captures no tracers, it is not traced again for the
      same types as long as it is alive; if it is an object or a method of one,
      as long as that has not changed.
    args: its positional arguments, or :class:`jax.ShapeDtypeStruct`s for them.
    kwargs: its keyword arguments likewise.
    trace: a function like :func:`trace`.

  Returns:
    The function made free of constants, and the values that it captured.
  """
  in_flat, in_tree = tree_flatten((tuple(args), kwargs))
  in_avals = tuple(map(core.typeof, in_flat))
  # One with an `__eq__` of its own can equal another that captures others.
  owner = fun.__self__ if type(fun) is types.MethodType else fun
  ty = type(owner)
  if not (ty.__eq__ is object.__eq__ and ty.__hash__ is object.__hash__ and
          ty.__weakrefoffset__):
    return trace(fun, in_tree, in_avals)
  is_object = ty is not types.FunctionType
  try:
    state = function_tree.object_state(owner) if is_object else None
  except function_tree.NotUnderstood:
    return trace(fun, in_tree, in_avals)
  key = (trace, fun is owner or fun.__func__, in_tree, in_avals,
         config.trace_context())
  traced_state, result = _traced.get(owner, {}).get(key, (None, None))
  if result is None or traced_state != state:
    result = code, consts = trace(fun, in_tree, in_avals)
    # Tracers must not be kept alive, and are useless to later calls. A rule in
    # the program may hold the object, which would then keep itself alive.
    if not any(isinstance(c, core.Tracer) for c in consts) and not (
        is_object and not structural_key.is_self_contained(code.jaxpr, ())):
      _traced.setdefault(owner, {})[key] = state, result
  code, consts = result
  return code, list(consts)

def bad_inputs(made_by: str = "closure_convert") -> str:
  return (f"The inputs to the closure produced by {made_by} do not match the "
          "example arguments")

def flatten_args(in_tree: PyTreeDef, num_hoisted: int, args: Sequence[Any],
                 kwargs: dict[str, Any], made_by: str = "closure_convert"
                 ) -> tuple[list[Any], list[Any]]:
  args, hoisted = split_list(args, [max(len(args) - num_hoisted, 0)])
  in_flat, in_tree_ = tree_flatten((tuple(args), kwargs))
  if in_tree_ == in_tree:
    return in_flat, hoisted
  example_args, _ = tree_unflatten(in_tree, [0] * in_tree.num_leaves)
  if len(args) != len(example_args) or len(hoisted) != num_hoisted:
    followed = (f"followed by {num_hoisted} hoisted value(s), "
                if num_hoisted else "")
    raise TypeError(
        f"{bad_inputs(made_by)}: expected {len(example_args)} positional "
        f"argument(s) {followed}but got {len(args) + len(hoisted)} positional "
        "argument(s) in all")
  raise TypeError(
      f"{bad_inputs(made_by)} in pytree structure: expected {in_tree}, but got "
      f"{in_tree_}")

def check_hoisted(avals: Sequence[core.AbstractValue], values: Sequence[Any],
                  made_by: str = "closure_convert"):
  for i, (aval, x) in enumerate(zip(avals, values)):
    got = core.typeof(x)
    if got is not aval and (got.shape, got.dtype) != (aval.shape, aval.dtype):
      raise TypeError(
          f"{bad_inputs(made_by)}: hoisted value {i} (of {len(values)}) must "
          f"be of type {aval.str_short()}, as it was when the function was "
          f"converted, but got {got.str_short()}")

def mismatch(in_tree: PyTreeDef, expected: Sequence[core.AbstractValue],
             got: Sequence[core.AbstractValue]) -> str:
  # Names the leaves whose types differ.
  example = tree_unflatten(in_tree, expected)
  return "; ".join(
      f"{('args', 'kwargs')[path[0].idx]}{keystr(path[1:])} was "
      f"{e.str_short()}, but is {g.str_short()}"
      for (path, e), g in zip(tree_flatten_with_path(example)[0], got)
      if not core.typematch(e, g))
