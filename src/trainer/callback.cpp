// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/callback.h"

#include <c10/util/Type.h>

#include <typeinfo>

namespace ckptio {

std::string Callback::state_key() const { return c10::demangle(typeid(*this).name()); }

}  // namespace ckptio
