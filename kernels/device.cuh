// The dialect: all that a kernel may use, on a GPU or on the host. See README.md beside this file.
#pragma once
#ifdef __CUDACC__
#include "gpu/types.cuh"
#include "gpu/ptx.cuh"
#else
#include "emu/cuda.h"
#include "emu/ptx.h"
#endif
