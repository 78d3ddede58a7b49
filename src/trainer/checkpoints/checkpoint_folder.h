// SPDX-License-Identifier: Apache-2.0
// Paths of checkpoints and of the folder they are in. Folders of this machine are looked into; of any other place (a
// URI with a scheme that is not `file`) only the text of the path counts.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ckptio::detail {

// A path without a scheme, or of `file://`.
bool is_local(const std::string& path);

// The path that stands for a folder of this machine wherever the program is: `~` is the home, links are resolved. Of
// another place, the path as it is.
std::string resolve_folder(const std::string& path);

// The place at `name` seen from `folder`; an absolute name is itself.
std::string path_in(const std::string& folder, const std::string& name);
std::string folder_of(const std::string& path);

// `path` as seen from `folder`, such that path_in(folder, result) is it again: relative if both are local or `path`
// lies in `folder`, otherwise the path itself.
std::string name_in(const std::string& folder, const std::string& path);

// True if `path` is a name in the folder or in one below it. Nothing has to exist.
bool lies_in(const std::string& path, const std::string& folder);

// True if both are one file now, by whatever names and links.
bool is_same_file(const std::string& a, const std::string& b);

// Of this machine: true if something can be opened there. False for every other place.
bool is_there(const std::string& path);
bool is_folder_with_entries(const std::string& path);

// Changed by the last save: nanoseconds of the file system's clock; nullopt where nothing is there.
std::optional<long long> time_of(const std::string& path);

// Names directly in a folder of this machine, sorted, without temporary ones; empty where nothing can be seen.
std::vector<std::string> names_in(const std::string& folder);

}  // namespace ckptio::detail
