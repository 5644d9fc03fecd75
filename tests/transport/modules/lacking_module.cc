// SPDX-License-Identifier: Apache-2.0
// Owns a module that needs a library which is not there.
extern "C" int absent_vendor_devices();

extern "C" [[gnu::visibility("default")]] const void* mempool_transport_module() {
  static const int devices = absent_vendor_devices();
  return &devices;
}
