// SPDX-License-Identifier: Apache-2.0
// The main job: trains a small convolutional network on handwritten digits; keeps the three best checkpoints by their
// validation loss and, every 40 steps, the last one, written in the background as files that Python reads; stops when
// the loss gets no better; and, started again after it died, goes on from the last one. With no arguments it shows that
// this is exact: see story.h.
//
//   ckptio_train_and_resume train FOLDER    trains in FOLDER, or goes on with what is there
//   ckptio_train_and_resume [FOLDER]        the story: trains, is killed twice, resumes, compares
#include <torch/torch.h>

#include <iostream>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/trainer/early_stopping.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/trainer.h"
#include "digits.h"
#include "story.h"

using torch::data::samplers::RandomSampler;
using torch::data::samplers::SequentialSampler;
using Batch = torch::data::Example<>;

class DigitsNet : public ckptio::TrainingModule {
 public:
  torch::Tensor forward(torch::Tensor x) {
    x = torch::relu(conv1_->forward(x));
    x = torch::max_pool2d(torch::relu(conv2_->forward(x)), 2);
    x = torch::relu(fc1_->forward(dropout_->forward(x.flatten(1))));
    return fc2_->forward(dropout_->forward(x));
  }

  torch::Tensor training_step(const Batch& batch, int64_t /*batch_idx*/) {
    const auto loss = torch::cross_entropy_loss(forward(batch.data), batch.target);
    log("train_loss", loss, {.on_epoch = true, .prog_bar = true});
    return loss;
  }

  void validation_step(const Batch& batch, int64_t /*batch_idx*/) {
    const auto logits = forward(batch.data);
    log("val_loss", torch::cross_entropy_loss(logits, batch.target), {.prog_bar = true});
    log("val_acc", (logits.argmax(1) == batch.target).to(torch::kFloat64).mean(), {.prog_bar = true});
  }

  ckptio::OptimizersAndSchedulers configure_optimizers() override {
    auto adam = std::make_shared<torch::optim::Adam>(parameters(), 2e-3);
    auto step_lr = std::make_shared<ckptio::StepLR>(*adam, /*step_size=*/6, /*gamma=*/0.5);
    return {{adam}, {step_lr}};
  }

 private:
  torch::nn::Conv2d conv1_ = register_module("conv1", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 16, 3).padding(1)));
  torch::nn::Conv2d conv2_ =
      register_module("conv2", torch::nn::Conv2d(torch::nn::Conv2dOptions(16, 32, 3).padding(1)));
  torch::nn::Dropout dropout_ = register_module("dropout", torch::nn::Dropout(0.3));
  torch::nn::Linear fc1_ = register_module("fc1", torch::nn::Linear(32 * 4 * 4, 256));
  torch::nn::Linear fc2_ = register_module("fc2", torch::nn::Linear(256, 10));
};

template <class Sampler>
auto make_loader(Digits::Part part) {
  return torch::data::make_data_loader<Sampler>(Digits(part).map(torch::data::transforms::Stack<>()),
                                                /*batch_size=*/32);
}

// `mishap`: how this run is to be killed, if at all.
void train(const std::string& folder, const Mishap& mishap) {
  torch::manual_seed(7);
  auto net = std::make_shared<DigitsNet>();
  auto train_loader = make_loader<RandomSampler>(Digits::Part::kTraining);
  auto val_loader = make_loader<SequentialSampler>(Digits::Part::kValidation);

  // What a killed save left is this run's own, and may be saved over: no version counter.
  auto best =
      std::make_shared<ckptio::ModelCheckpoint>(ckptio::ModelCheckpointOptions{.dirpath = folder + "/best",
                                                                               .filename = "{epoch:02d}-{val_loss:.3f}",
                                                                               .monitor = "val_loss",
                                                                               .verbose = true,
                                                                               .save_top_k = 3,
                                                                               .enable_version_counter = false});
  auto last =
      std::make_shared<ckptio::ModelCheckpoint>(ckptio::ModelCheckpointOptions{.dirpath = folder + "/last",
                                                                               .filename = "{step}",
                                                                               .save_last = "link",
                                                                               .every_n_train_steps = 40,
                                                                               .enable_version_counter = false});
  auto patience = std::make_shared<ckptio::EarlyStopping>(
      ckptio::EarlyStoppingOptions{.monitor = "val_loss", .patience = 4, .verbose = true});

  auto files = std::make_shared<ckptio::PythonCheckpointIO>(mishap.storage());
  ckptio::Trainer trainer({.max_epochs = 30,
                           .print = [](std::string_view line) { std::cout << line << std::endl; },
                           .callbacks = {best, last, patience, mishap.callback()},
                           .plugins = {std::make_shared<ckptio::AsyncCheckpointIO>(files)}});

  trainer.fit(net, train_loader, val_loader, "last");  // or from the beginning, where there is none yet
  trainer.save_checkpoint(folder + "/final.ckpt");
}

int main(int argc, char** argv) {
  torch::set_num_threads(1);  // so that sums are made in one order on every machine
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() >= 2 && arguments[0] == "train") {
    train(arguments[1], Mishap(arguments.size() > 2 ? arguments[2] : ""));
    return 0;
  }
  return tell_story(argv[0], arguments.empty() ? "train_and_resume" : arguments[0]);
}
