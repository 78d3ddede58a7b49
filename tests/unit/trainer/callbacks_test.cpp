// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <sstream>

#include "ckptio/trainer/progress_bar.h"
#include "small_run.h"
#include "support/catch.h"

namespace ckptio::test {
namespace {

std::string shown_by(bool terminal) {
  std::ostringstream out;
  const auto bar =
      std::make_shared<ProgressBar>(ProgressBarOptions{.terminal = terminal, .out = &out, .refresh_interval_ms = 0});
  Trainer trainer(quiet(2, nullptr, {bar}));
  trainer.fit(make_net(), make_loader(), make_loader());
  return out.str();
}

TEST_CASE("The progress bar is a line per epoch where there is no terminal", "[trainer]") {
  const std::string shown = shown_by(false);
  CHECK(std::ranges::count(shown, '\n') == 2);
  CHECK_THAT(shown, StartsWith("epoch 0: 6 batches in ") && ContainsSubstring("\nepoch 1: 6 batches in ") &&
                        ContainsSubstring("global step 12"));
  CHECK(shown.find('\r') == std::string::npos);
}

TEST_CASE("The progress bar is a bar on a terminal", "[trainer]") {
  const std::string shown = shown_by(true);
  CHECK_THAT(shown,
             ContainsSubstring(
                 "\r\x1b[2KEpoch 0  [...###..................]  3  ") &&  // the first epoch's length is not known yet
                 ContainsSubstring("\r\x1b[2KEpoch 1  [############............]  3/6  "));
  CHECK(std::ranges::count(shown, '\n') == 2);
}

}  // namespace
}  // namespace ckptio::test
