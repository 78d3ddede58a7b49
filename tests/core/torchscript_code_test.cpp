// SPDX-License-Identifier: Apache-2.0
#include "codec/torchscript_code.h"

#include "support/catch.h"

using ckptio::detail::examine_torchscript;
using ckptio::detail::torchbind_class_in;

namespace {

bool refused(const std::string& text) { return !examine_torchscript("code/x.py", text).unsafe.empty(); }

}  // namespace

TEST_CASE("What LibTorch and TorchScript write for plain modules is accepted", "[torchscript]") {
  CHECK_FALSE(refused(""));
  CHECK_FALSE(
      refused("class Module(Module):\n  __parameters__ = [\"0\", \"w\", ]\n  __buffers__ = []\n  x : Dict[str, Any]\n"
              "  __annotations__[\"0\"] = Tensor\n  __annotations__ = []\n"));
  const auto code = examine_torchscript(
      "code/x.py",
      "op_version_set = 1\nclass Net(Module):\n  training : bool\n  fc : __torch__.torch.nn.Linear\n"
      "  scale : Final[float] = 0.5\n"
      "  def forward(self: __torch__.Net,\n    x: Tensor, n: int=3, s: str=\"a=f(x)\", l: List[int]=[1, -2]) -> "
      "Tensor:\n"
      "    y = torch.add(x, f(x)); z = 1\n    return (self.fc).forward(x, )\n"
      "  def other(self: __torch__.Net) -> int:\n    return 1\ndef free(x: int) -> int:\n  return x\n");
  CHECK(code.unsafe == std::vector<std::string>{});
  CHECK(code.functions == std::vector<std::string>{"Net.forward", "Net.other", "free"});
}

TEST_CASE("Classes come with their base, parameters and buffers, and whether they restore themselves",
          "[torchscript]") {
  const auto code = examine_torchscript(
      "code/x.py",
      "class Net(Module):\n  __parameters__ = [\"weight\", \"a \\\" quote\", ]\n  __buffers__ = [\"mean\", ]\n"
      "  weight : Tensor\n  def forward(self: __torch__.Net) -> int:\n    return 1\n"
      "class Foo:\n  a : int\n"
      "class Own(Module):\n  def __setstate__(self: __torch__.Own, s: int) -> NoneType:\n    return None\n"
      "def __setstate__(x: int) -> int:\n  return x\n"
      "class Color(Enum):\n  R = 1\n");
  REQUIRE(code.classes.size() == 4);
  CHECK(code.classes[0].name == "Net");
  CHECK(code.classes[0].base == "Module");
  CHECK(code.classes[0].parameters == std::vector<std::string>{"weight", "a \" quote"});
  CHECK(code.classes[0].buffers == std::vector<std::string>{"mean"});
  CHECK_FALSE(code.classes[0].has_setstate);
  CHECK(code.classes[1].name == "Foo");
  CHECK(code.classes[1].base.empty());
  CHECK(code.classes[2].has_setstate);
  CHECK(code.classes[3].base == "Enum");
  CHECK_FALSE(code.classes[3].has_setstate);
}

TEST_CASE("Whatever would run at load is refused", "[torchscript]") {
  CHECK(refused("class A(Module):\n  def __setstate__(self: __torch__.A, s: int) -> None:\n    return None\n"));
  CHECK(refused("class A(Module):\n  def f(self: __torch__.A, x: int=g()) -> None:\n    return None\n"));
  CHECK(
      refused("class A(Module):\n  def f(self: __torch__.A, x: Tensor=torch.from_file(\"/x\")) -> None:\n    pass\n"));
  CHECK(refused("class A(NamedTuple):\n  x : int = torch.f()\n"));
  CHECK(refused("class A(NamedTuple):\n  x : int = [f][0]\n"));
  CHECK(refused("class A(NamedTuple):\n  x : str = \"a\"(\"b\")\n"));
  CHECK(refused("class A(Module):\n  c : Final[float] = torch.seed()\n"));
  CHECK(refused("class A(Module):\n  x : __torch__.torch.classes.quantized.Conv2dPackedParamsBase\n"));
  CHECK(refused("class A(Module):\n  x : __torch__ . torch . classes.q.C\n"));
  CHECK(refused("x = f()\n"));
  CHECK(refused("f()\n"));
}

TEST_CASE("Text whose structure could be seen in two ways is refused", "[torchscript]") {
  CHECK(refused("class A(Module):\n  def f(self) -> None:\n    pass\n\tx : int = f()\n"));
  CHECK(refused("class A(Module):\n  x : int; y : int = f()\n"));
  CHECK(refused("class A(Module):\n  x : int \\\n = f()\n"));
  CHECK(refused("class A(Module):\n  @f\n  def g(self) -> None:\n    pass\n"));
}

TEST_CASE("TorchBind classes are found in a pickle, parted at any dot", "[torchscript]") {
  CHECK(torchbind_class_in("\x80\x02"
                           "c__torch__\nModule\n")
            .empty());
  CHECK(torchbind_class_in("c__torch__.torch.classes.quantized\nLinearPackedParamsBase\nq") ==
        "__torch__.torch.classes.quantized.LinearPackedParamsBase.q");
  CHECK(torchbind_class_in("c__torch__.torch\nclasses.quantized.Linear\n") ==
        "__torch__.torch.classes.quantized.Linear.");
}
