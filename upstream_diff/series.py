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

"""The table of the patches: which definition and which test belongs to which.

What is not listed belongs to the first patch that needs it: helpers, imports,
new modules, exports, entries of Bazel and of the documentation. To add a patch,
add an entry to the table and a file of its name, with its texts, in `patches`.
"""

import dataclasses
import fnmatch
import functools
import pathlib
import re

_HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Patch:
  """One commit of the series.

  Attributes:
    name: of the file with its texts.
    owns: for each upstream path, what the patch adds there or replaces.
      "f" is a definition, "f.defvjp" a rule that is set, "C/f" a method,
      "C/f/x" an assignment in its body, and "f/doc:word" the paragraph of a
      docstring that has the word. Tests are patterns of the names of methods,
      and the exact ones come first. A path that upstream does not have is a new
      file.
    drops: tests of upstream that go, since what they test goes.
  """
  name: str
  owns: dict[str, list[str]]
  drops: dict[str, list[str]] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def _texts(self) -> dict[str, str]:
    text = (_HERE / "patches" / f"{self.name}.md").read_text(encoding="utf-8")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    subject, _, body = head.partition("\n")
    texts = {"subject": subject.removeprefix("# "), "body": body}
    for section in sections:
      title, _, body = section.partition("\n")
      texts[title] = body
    return {title: text.strip("\n") for title, text in texts.items()}

  @property
  def subject(self) -> str:
    return self._texts["subject"]

  @property
  def body(self) -> str:
    return self._texts["body"]

  @property
  def note(self) -> str:
    return self._texts["Note"]

  @property
  def changelog(self) -> tuple[str, list[str]]:
    """The section of the changelog, and the lines of the bullet."""
    (section, text), = [(title.removeprefix("Changelog: "), text)
                        for title, text in self._texts.items()
                        if title.startswith("Changelog: ")]
    return section, text.splitlines()


_CUSTOM_DERIVATIVES = "jax/_src/custom_derivatives.py"
_ODE = "jax/experimental/ode.py"
_CUSTOM_API_TEST = "tests/custom_api_test.py"
_ODE_TEST = "tests/ode_test.py"

PATCHES = (
    Patch(
        "odeint_symbolic_zeros",
        owns={
            _ODE: ["_odeint_wrapper", "_odeint_fwd", "_odeint_rev",
                   "_odeint.defvjp"],
            _ODE_TEST: [
                "test_derivatives_with_arguments",
                "test_second_derivatives_with_int_argument",
                "test_all_derivatives_with_int", "test_grad_allow_int",
                "test_adjoint_integrates_only_what_is_differentiated",
                "test_derivatives_of_one_call_do_not_mix",
                "test_zero_cotangent", "test_one_time", "test_output_as_list",
                "test_real_derivative_of_a_complex_state"],
        }),
    Patch(
        "hoist_every_tracer",
        owns={
            _CUSTOM_DERIVATIVES: ["closure_convert"],
            _CUSTOM_API_TEST: ["test_maybe_perturbed_int_regression",
                               "test_closure_convert_*"],
            _ODE_TEST: ["test_*"],
        },
        drops={_CUSTOM_API_TEST: [
            "CustomJVPTest/test_maybe_perturbed_internal_helper_function"]}),
    Patch(
        "compare_by_structure",
        owns={
            _CUSTOM_DERIVATIVES: [
                "_ConvertedFunction/__init__/self._key",
                "_ConvertedFunction/__hash__", "_ConvertedFunction/__eq__",
                "closure_convert/doc:static_argnums"],
            _CUSTOM_API_TEST: [
                "test_closure_convert_fresh_closures_compile_nothing"],
            "tests/jaxpr_key_test.py": ["*"],
        }),
    Patch(
        "closure_to_pytree",
        owns={
            _CUSTOM_DERIVATIVES: ["closure_to_pytree"],
            _ODE: ["odeint"],
            _CUSTOM_API_TEST: ["test_closure_to_pytree_*"],
            _ODE_TEST: ["test_fresh_closure_compiles_nothing", "test_effects",
                        "test_captured_ref"],
        }),
    Patch(
        "odeint_errors",
        owns={
            _ODE: ["_check_inputs", "odeint/_check_inputs", "_check_derivative",
                   "_odeint_wrapper/flat_func/_check_derivative"],
            _ODE_TEST: ["test_errors_times", "test_errors_derivatives",
                        "test_errors_options",
                        "test_no_errors_without_jit"],
        }),
)


def owner(path: str, name: str) -> int | None:
  """Returns which patch, counted from one, something is listed under."""
  listed = [(k, item) for k, patch in enumerate(PATCHES, 1)
            for item in patch.owns.get(path, ())]
  found = ([k for k, item in listed if item == name] or
           [k for k, item in listed if fnmatch.fnmatchcase(name, item)])
  if len(found) > 1:
    raise AssertionError(f"{name} of {path} is listed under {len(found)}"
                         " patches")
  return found[0] if found else None
