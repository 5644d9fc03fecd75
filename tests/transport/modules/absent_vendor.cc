// SPDX-License-Identifier: Apache-2.0
// Owns a vendor's library that the machine of the tests does not have.
extern "C" [[gnu::visibility("default")]] int absent_vendor_devices() {
  return 0;
}
