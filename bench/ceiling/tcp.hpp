// SPDX-License-Identifier: Apache-2.0
// The sockets of both ends, set as the product sets its own: cubic, no delay.
#pragma once

#include <cstdint>

namespace ceiling {

// These print what went wrong and end the process: a measurement has nothing to recover.
[[nodiscard]] int listen_on_loopback(std::uint16_t port);   // 0: any free port
[[nodiscard]] std::uint16_t local_port(int fd);
[[nodiscard]] int connect_to_loopback(std::uint16_t port);  // connected and non-blocking
void make_non_blocking(int fd);
void reserve_descriptors();                                 // as many as this process may have
[[noreturn]] void die(const char* what);                    // with the text of errno

}  // namespace ceiling
