// SPDX-License-Identifier: Apache-2.0
// The same for tests.
#include "headers.hpp"

#include <gtest/gtest.h>
