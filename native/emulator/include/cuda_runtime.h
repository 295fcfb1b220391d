#pragma once

// Stands in for CUDA's header of this name.

#include "emulator/language.h"

// These use the language.
#include "emulator/intrinsics.h"
#include "emulator/runtime.h"
#include "emulator/warp.h"

// What the kernels' own headers (mma.cuh, hopper.cuh) look for in place of inline assembly.
#include "emulator/hopper.h"
#include "emulator/instructions.h"
