// Loads each file named on the command line and prints what the loader says, for tests in other languages:
// per file a line "good" or "bad", then its diagnostics, then an empty line.
#include <iostream>

#include "policies/loader.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const auto loaded = synfluid::policies::load_file(argv[i]);
    std::cout << (loaded ? "good\n" : "bad\n");
    std::cout << (loaded ? to_string((*loaded)->warnings()) : synfluid::policies::to_string(loaded.error()))
              << '\n';
  }
  return 0;
}
