// SPDX-License-Identifier: Apache-2.0
// All of ckptio. checkpoint_io.h is the one to read first; ckptio/fmt.h is apart, as it needs fmt.
#pragma once

#include "ckptio/checkpoint_io.h"
#include "ckptio/error.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/load_checkpoint.h"
#include "ckptio/lr_scheduler.h"
#include "ckptio/map_location.h"
#include "ckptio/rng_state.h"
#include "ckptio/save_future.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "ckptio/storage/storage_backend.h"
#include "ckptio/trainer/every_n_train_steps.h"
#include "ckptio/trainer/progress_bar.h"
#include "ckptio/trainer/trainer.h"
#include "ckptio/value.h"
#include "ckptio/version.h"
