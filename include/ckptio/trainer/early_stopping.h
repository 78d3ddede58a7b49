// SPDX-License-Identifier: Apache-2.0
// EarlyStopping: ends training when a metric stops getting better.
//
//   auto stopper = std::make_shared<ckptio::EarlyStopping>(
//       ckptio::EarlyStoppingOptions{.monitor = "val_loss", .patience = 5});
//   ckptio::Trainer trainer({.max_epochs = 100, .callbacks = {stopper}});
//
// Rules, messages, state and its key are those of Lightning 2.6: a checkpoint of either goes on in the other. Looks
// only in fit, and not in sanity checks and a fast_dev_run. Training still goes on to min_epochs and min_steps. A
// metric that is a float32's value is compared as float32, as Lightning does; any other as double.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ckptio/trainer/callback.h"

namespace ckptio {

struct EarlyStoppingOptions {
  // The metric's name in Trainer::callback_metrics().
  std::string monitor{};
  // A change of no more than this does not count as better.
  double min_delta = 0.0;
  // Ends training after so many looks in a row without a better value. Looks, not epochs: see
  // check_on_train_epoch_end.
  std::int64_t patience = 3;
  // Prints a line where the metric got better or training ends, and, not `strict`, where the metric is missing.
  bool verbose = false;
  // "min": lower is better; "max": higher.
  std::string mode = "min";
  // A metric that is missing ends the run with a MisconfigurationError; otherwise nothing is done.
  bool strict = true;
  // Ends training where the metric is NaN or infinite.
  bool check_finite = true;
  // Ends training where the metric is better than this.
  std::optional<double> stopping_threshold{};
  // Ends training where it is worse than this.
  std::optional<double> divergence_threshold{};
  // Looks at the end of training epochs (true) or of validations (false). Unset: at the end of epochs if each ends with
  // the one validation that it has, which is the default, and else at the end of validations.
  std::optional<bool> check_on_train_epoch_end{};
};

// Its number is what Lightning saves.
enum class EarlyStoppingReason : std::uint8_t {
  not_stopped = 0,
  stopping_threshold = 1,
  divergence_threshold = 2,
  patience_exhausted = 3,
  non_finite_metric = 4,
};

class EarlyStopping : public Callback {
 public:
  // MisconfigurationError for another mode; ValueError where no metric is named.
  explicit EarlyStopping(EarlyStoppingOptions options);

  // Looks since the metric was last better.
  std::int64_t wait_count() const noexcept { return wait_count_; }
  // The epoch in which this ended training; 0 if it did not.
  std::int64_t stopped_epoch() const noexcept { return stopped_epoch_; }
  // The best value so far; before the first one infinite.
  double best_score() const noexcept { return best_score_; }
  std::int64_t patience() const noexcept { return options_.patience; }
  EarlyStoppingReason stopping_reason() const noexcept { return stopping_reason_; }
  const std::optional<std::string>& stopping_reason_message() const noexcept { return stopping_reason_message_; }

  void setup(Trainer& trainer, TrainingModule&, const std::string& stage) override;
  void on_train_epoch_end(Trainer& trainer, TrainingModule&) override;
  void on_validation_end(Trainer& trainer, TrainingModule&) override;

  // "EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}"
  std::string state_key() const override;
  Dict state_dict() const override;
  // The saved patience takes the place of the one in the options, as in Lightning. KeyError, TypeError or ValueError,
  // and nothing changed, where `state` is none of this class.
  void load_state_dict(const Dict& state) override;

 private:
  struct Verdict {
    std::optional<EarlyStoppingReason> stop;  // unset: go on
    std::string message;                      // may be empty
  };

  void look(Trainer& trainer);
  Verdict judge(double current);
  // `value` less `min_delta` in the direction of better, against `reference`.
  bool is_better(double value, double min_delta, double reference) const;
  std::string threshold_message(const char* title, double current, double threshold) const;

  EarlyStoppingOptions options_;
  bool checks_on_train_epoch_end_ = true;
  std::int64_t wait_count_ = 0;
  std::int64_t stopped_epoch_ = 0;
  double best_score_;
  EarlyStoppingReason stopping_reason_ = EarlyStoppingReason::not_stopped;
  std::optional<std::string> stopping_reason_message_;
};

}  // namespace ckptio
