// SPDX-License-Identifier: Apache-2.0
// A callback of two words: an object and one of its member functions. It owns nothing and allocates nothing.
#pragma once

#include <utility>

namespace perilune {

template <class Signature>
class Delegate;

template <class R, class... Args>
class Delegate<R(Args...)> {
 public:
  constexpr Delegate() noexcept = default;

  // Delegate<void(int)>::to<&Thing::on_done>(thing)
  template <auto Member, class T>
  [[nodiscard]] static constexpr Delegate to(T& object) noexcept {
    return Delegate(&object, [](void* self, Args... args) -> R {
      return (static_cast<T*>(self)->*Member)(std::forward<Args>(args)...);
    });
  }
  [[nodiscard]] static constexpr Delegate raw(void* context, R (*function)(void*, Args...)) noexcept {
    return Delegate(context, function);
  }

  R operator()(Args... args) const { return function_(context_, std::forward<Args>(args)...); }
  [[nodiscard]] explicit constexpr operator bool() const noexcept { return function_ != nullptr; }

 private:
  constexpr Delegate(void* context, R (*function)(void*, Args...)) noexcept
      : context_(context), function_(function) {}
  void* context_ = nullptr;
  R (*function_)(void*, Args...) = nullptr;
};

}  // namespace perilune
