// Launches for the tests' programs.
#pragma once
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "emu/entry.h"
#include "emu/launch.h"

struct Grid {
  uint32_t blocks[3], threads;
  size_t shared = 0;
};

template <auto kernel> void entry(void** args) { emu::call(kernel, args); }

// Ends the program unless `holds`.
inline void require(bool holds, const std::string& what) {
  if (holds) return;
  std::cout << what << '\n';
  std::exit(1);
}

// Runs a kernel with these arguments, each of exactly the parameter's type; "" or the error.
template <auto kernel, class... A> std::string launch(const Grid& grid, bool reversed, A... a) {
  void* args[] = {&a..., nullptr};
  const char* error = toedit_emulate("planted", &entry<kernel>, grid.blocks, grid.threads, grid.shared, args, reversed);
  return error ? error : "";
}

// The same, of a kernel that has no fault.
template <auto kernel, class... A> void run(const Grid& grid, bool reversed, A... a) {
  const std::string error = launch<kernel>(grid, reversed, a...);
  require(error.empty(), error);
}

// An argument that is only read.
template <class T> const T* in(const std::vector<T>& values) { return values.data(); }

inline void print(const std::string& error) { std::cout << (error.empty() ? "no error" : error) << '\n'; }
