// SPDX-License-Identifier: Apache-2.0
#pragma once

// 1 when a sanitizer that brings its own allocator is compiled in: then operator new cannot be replaced to
// count.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PERILUNE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PERILUNE_SANITIZED 1
#endif
#endif
#ifndef PERILUNE_SANITIZED
#define PERILUNE_SANITIZED 0
#endif
