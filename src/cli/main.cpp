// SPDX-License-Identifier: Apache-2.0
// ckptio: the command line. Parses the arguments and hands them to the commands; every error ends here, as one line.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "ckptio/version.h"
#include "cli/console.h"
#include "cli/convert_command.h"
#include "cli/diff_command.h"
#include "cli/exit_code.h"
#include "cli/inspect_command.h"
#include "cli/verify_command.h"

namespace {

using namespace ckptio::cli;
using Run = std::function<int(Console&)>;

constexpr const char* kAbout =
    "Looks into checkpoint files, checks, converts and compares them: torch.save's (.pt, .pth, .ckpt, .bin),\n"
    "torch::save's and safetensors. Nothing in a file is ever executed, whatever it holds.";

constexpr const char* kFooter = R"(Examples:
  ckptio inspect last.ckpt                     what is in it: names, types, shapes, sizes
  ckptio inspect --json last.ckpt | jq .       the same and a hash of every tensor, for programs
  ckptio verify run/*.ckpt && echo all whole   check every byte
  ckptio convert last.ckpt last.safetensors    to another format
  ckptio diff old.ckpt new.ckpt                what training changed

Exit codes:
  0  done; verify: all whole; diff: equal      5  unsafe: --weights-only, and it holds more
  1  verify: damaged; diff: different          6  not supported
  2  wrong arguments                           7  the system refused: full disk, no permission
  3  no such file                              8  any other error
  4  corrupt: not what it claims to be)";

void add_inspect(CLI::App& app, Run& run) {
  static InspectOptions options;
  CLI::App* command =
      app.add_subcommand("inspect", "Show what a checkpoint holds: a tree with types, shapes and sizes");
  command->add_option("FILE", options.file, "The checkpoint")->required();
  command->add_flag("--json", options.json, "One JSON value with every type and value, and a SHA-256 of every tensor");
  command->add_flag("--values", options.values, "Also show whole strings and lists, and the elements of small tensors");
  command->add_flag("--weights-only", options.weights_only,
                    "Refuse a file that holds more than tensors and plain values");
  command->callback([&run] { run = [](Console& console) { return inspect(options, console); }; });
}

void add_verify(CLI::App& app, Run& run) {
  static VerifyOptions options;
  CLI::App* command = app.add_subcommand("verify", "Check files, every checksum and every bound; say what is damaged");
  command->add_option("FILE", options.files, "The checkpoints")->required();
  command->add_flag("--weights-only", options.weights_only,
                    "Refuse a file that holds more than tensors and plain values");
  command->callback([&run] { run = [](Console& console) { return verify(options, console); }; });
}

void add_convert(CLI::App& app, Run& run) {
  static ConvertOptions options;
  CLI::App* command = app.add_subcommand("convert", "Write a checkpoint in another format");
  command->add_option("IN", options.in, "The checkpoint to read; its format is seen by its bytes")->required();
  command->add_option("OUT", options.out, "The file to write, all or nothing; it may be IN")->required();
  command
      ->add_option("--to", options.to,
                   "torch: as torch::save; python: as Python's torch.save; safetensors. Otherwise the extension of "
                   "OUT decides: .pt .pth .ckpt .bin are python, .safetensors, .torch")
      ->check(CLI::IsMember({"torch", "python", "safetensors"}));
  command->footer(
      "From Python's files to Python's, everything is kept, objects of unknown classes too.\n"
      "In safetensors, values that are no tensors go into the metadata.");
  command->callback([&run] { run = [](Console& console) { return convert(options, console); }; });
}

void add_diff(CLI::App& app, Run& run) {
  static DiffOptions options;
  CLI::App* command =
      app.add_subcommand("diff", "Compare two checkpoints: keys, types, shapes, and the largest differences of values");
  command->add_option("A", options.a, "The first checkpoint")->required();
  command->add_option("B", options.b, "The second, of any format")->required();
  command->footer(
      "Ends with 0 where they are equal and with 1 where they differ. Values count, not how they are kept:\n"
      "strides, shared storages, requires_grad and the order of keys make no difference.");
  command->callback([&run] { run = [](Console& console) { return diff(options, console); }; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(kAbout, "ckptio");
  Run run;
  app.set_version_flag("--version", std::string("ckptio ") + ckptio::kVersion);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  add_inspect(app, run);
  add_verify(app, run);
  add_convert(app, run);
  add_diff(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "ckptio: %s; `ckptio --help` says how it is called\n", error.what());
    return kUsage;
  }
  try {
    Console console;
    const int code = run(console);
    console.flush();
    return code;
  } catch (const std::exception& error) {
    return report(error);
  }
}
