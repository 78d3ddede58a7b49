// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_name.h"

#include <cmath>
#include <limits>

#include "ckptio/error.h"
#include "support/catch.h"
#include "trainer/checkpoints/timedelta_text.h"

namespace ckptio::test {
namespace {

using detail::begins_like;
using detail::format_name;
using detail::NamedNumbers;
using detail::NameStyle;
using detail::Number;
using detail::python_format;
using detail::python_str;

constexpr double kFloat32Tenth = 0.10000000149011612;  // what a float32 of 0.1 holds
const NameStyle kPlain{.auto_insert_metric_name = false};

Number integer(std::int64_t value) { return value; }

TEST_CASE("Templates of names give Lightning's names", "[checkpoint_name]") {
  struct Row {
    std::string name_template;
    NamedNumbers metrics;
    NameStyle style;
    std::string name;
  };
  const std::vector<Row> rows{
      {"", {{"epoch", integer(3)}, {"step", integer(2)}}, {}, "epoch=3-step=2"},
      {"", {{"epoch", integer(3)}, {"step", integer(2)}}, kPlain, "3-2"},
      {"{epoch:03d}-{acc}", {{"epoch", integer(3)}, {"acc", 0.03}}, {}, "epoch=003-acc=0.03"},
      {"{epoch:03d}-{acc}-{acc}", {{"epoch", integer(3)}, {"acc", 0.03}}, {}, "epoch=003-acc=0.03-acc=0.03"},
      {"{epoch:02d}-{val_loss:.2f}", {{"epoch", integer(7)}, {"val_loss", 0.256}}, {}, "epoch=07-val_loss=0.26"},
      {"epoch={epoch:03d}-val_acc={val/acc}",
       {{"epoch", integer(3)}, {"val/acc", 0.03}},
       kPlain,
       "epoch=003-val_acc=0.03"},
      {"{epoch:02d}-{val/loss:.2f}", {{"epoch", integer(1)}, {"val/loss", 0.5}}, {}, "epoch=01-val/loss=0.50"},
      {"mAP@0.50={val/mAP@0.50:.4f}", {{"val/mAP@0.50", 0.2}}, kPlain, "mAP@0.50=0.2000"},
      {"{mAP@0.50:.4f}", {{"mAP@0.50", 0.2}}, {}, "mAP@0.50=0.2000"},
      {"{val_loss}", {{"val_loss", kFloat32Tenth}}, {}, "val_loss=0.10000000149011612"},
      {"{val_loss}", {{"val_loss", std::nan("")}}, {}, "val_loss=nan"},
      {"{val_loss:.2f}", {{"val_loss", std::nan("")}}, {}, "val_loss=nan"},
      {"{missing:d}", {}, {}, "missing=0"},
      {"{missing}", {}, {}, "missing=0"},
      {"{missing:.3f}", {}, {}, "missing=0.000"},
      {"{epoch}-{epoch_test}", {{"epoch", integer(1)}, {"epoch_test", integer(2)}}, {}, "epoch=1-epoch_test=2"},
      {"{loss}", {{"loss", 2.0}}, {}, "loss=2.0"},
      {"best", {}, {}, "best"},
      {"a{{b}}c", {}, {}, "a{b}c"},
      {"{step}", {{"step", integer(5)}}, {.equals_char = ":"}, "step:5"},
      {"", {{"epoch", integer(3)}, {"step", integer(2)}}, {.join_char = "@"}, "epoch=3@step=2"},
  };
  for (const Row& row : rows) {
    INFO(row.name_template);
    CHECK(format_name(row.name_template, row.metrics, row.style) == row.name);
  }
}

TEST_CASE("A name template that cannot be filled is a ValueError", "[checkpoint_name]") {
  CHECK_THROWS_AS(format_name("{epoch:d}", {{"epoch", 1.5}}, {}), ValueError);
  CHECK_THROWS_AS(format_name("{epoch:q}", {{"epoch", integer(1)}}, {}), ValueError);
  CHECK_THROWS_AS(format_name("{epoch", {}, {}), ValueError);
  CHECK_THROWS_AS(format_name("epoch}", {}, {}), ValueError);
  CHECK_THROWS_AS(python_format(1.0, ".f"), ValueError);
  CHECK_THROWS_AS(python_format(integer(1), ".2d"), ValueError);
  CHECK_THROWS_AS(python_format(1.0, "999999999f"), ValueError);
}

TEST_CASE("Formats of numbers are Python's", "[checkpoint_name]") {
  struct Row {
    Number number;
    const char* spec;
    const char* text;
  };
  // Each text is what Python 3 gives for format(number, spec).
  const std::vector<Row> rows{
      {0.03, "", "0.03"},
      {1e-5, "", "1e-05"},
      {100000.0, "", "100000.0"},
      {1e16, "", "1e+16"},
      {123456789.125, "", "123456789.125"},
      {1e15, "", "1000000000000000.0"},
      {0.0001, "", "0.0001"},
      {-0.0, "", "-0.0"},
      {1.0 / 3, "", "0.3333333333333333"},
      {5e-324, "", "5e-324"},
      {1.7976931348623157e308, "", "1.7976931348623157e+308"},
      {std::numeric_limits<double>::infinity(), "", "inf"},
      {-std::numeric_limits<double>::infinity(), "F", "-INF"},
      {2.0, ".3", "2.0"},
      {123.0, ".3", "1.23e+02"},
      {123.0, ".4", "123.0"},
      {1e10, ".3", "1e+10"},
      {0.5, "%", "50.000000%"},
      {0.256, ".1%", "25.6%"},
      {1234.5, "e", "1.234500e+03"},
      {1234.5, "g", "1234.5"},
      {0.25, "+.1f", "+0.2"},
      {0.25, "8.2f", "    0.25"},
      {-0.25, "08.2f", "-0000.25"},
      {0.25, "*<8.2f", "0.25****"},
      {0.25, "^8.2f", "  0.25  "},
      {integer(3), "03d", "003"},
      {integer(-3), "04d", "-003"},
      {integer(3), "", "3"},
      {integer(3), ".2f", "3.00"},
      {integer(255), "x", "ff"},
      {integer(255), "#X", "0XFF"},
      {integer(5), "b", "101"},
      {integer(3), "+d", "+3"},
      {std::numeric_limits<std::int64_t>::min(), "d", "-9223372036854775808"},
  };
  for (const Row& row : rows) {
    INFO("spec '" << row.spec << "', expected " << row.text);
    CHECK(python_format(row.number, row.spec) == row.text);
  }
  CHECK(python_str(0.1) == "0.1");
}

TEST_CASE("Spans of time are written as Python writes them", "[checkpoint_name]") {
  using namespace std::chrono_literals;
  using detail::timedelta_repr;
  using detail::timedelta_str;
  CHECK(timedelta_repr(std::nullopt) == "None");
  CHECK(timedelta_repr(0s) == "datetime.timedelta(0)");
  CHECK(timedelta_repr(1min) == "datetime.timedelta(seconds=60)");
  CHECK(timedelta_repr(24h + 5s + 3us) == "datetime.timedelta(days=1, seconds=5, microseconds=3)");
  CHECK(timedelta_repr(-1s) == "datetime.timedelta(days=-1, seconds=86399)");
  CHECK(timedelta_str(1h) == "1:00:00");
  CHECK(timedelta_str(48h + 1s + 500ms) == "2 days, 0:00:01.500000");
  CHECK(timedelta_str(std::nullopt) == "None");
}

TEST_CASE("Names of last checkpoints are told by their beginning", "[checkpoint_name]") {
  CHECK(begins_like("last.ckpt", "last", {}));
  CHECK(begins_like("last-v1.ckpt", "last", {}));
  CHECK_FALSE(begins_like("epoch=1-step=2.ckpt", "last", {}));
  CHECK_FALSE(begins_like("las", "last", {}));
  CHECK(begins_like("last-epoch=3.ckpt", "last-{epoch}", {}));
  CHECK(begins_like("epoch=3-last-v2.ckpt", "{epoch}-last", {}));
  CHECK_FALSE(begins_like("epoch=3-step=4.ckpt", "{epoch}-last", {}));
}

}  // namespace
}  // namespace ckptio::test
