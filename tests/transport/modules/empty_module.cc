// SPDX-License-Identifier: Apache-2.0
// Owns a shared object by a module's name that is none: it has no entry point.
extern "C" [[gnu::visibility("default")]] int mempool_something_else() {
  return 0;
}
