// SPDX-License-Identifier: Apache-2.0
// Ring operations that outlive the handle which their user holds: accept, connect, poll. The user's handle
// abandons the operation; the object frees itself when the kernel has let go of it. Internal to this folder;
// the loop's thread.
#pragma once

#include <memory>

#include "base/intrusive_list.hpp"
#include "runtime/uring/ring.hpp"

namespace perilune::runtime::uring {

class Reactor;

// Something to be called in the next turn.
class Deferred : public ListNode<Deferred> {
 public:
  virtual void on_turn() = 0;

 protected:
  ~Deferred() = default;
};

class Event : public ListNode<Event> {
 public:
  virtual ~Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void deliver(int result, unsigned flags) {
    armed_ = (flags & IORING_CQE_F_MORE) != 0;
    in_callback_ = true;
    on_event(result, flags);
    in_callback_ = false;
    if (abandoned_ && !armed_) delete this;
  }
  // The user's handle is gone. No callback after this.
  void abandon() {
    abandoned_ = true;
    on_abandoned();
    if (armed_) ring_.cancel(Kind::event, this);
    else if (!in_callback_) delete this;
  }

 protected:
  explicit Event(Ring& ring) noexcept : ring_(ring) {}
  virtual void on_event(int result, unsigned flags) = 0;
  virtual void on_abandoned() {}
  // An entry whose completion comes to this object.
  [[nodiscard]] io_uring_sqe& arm() {
    armed_ = true;
    return ring_.entry(Kind::event, this);
  }
  [[nodiscard]] bool abandoned() const noexcept { return abandoned_; }

 private:
  Ring& ring_;
  bool armed_ = false;
  bool in_callback_ = false;
  bool abandoned_ = false;
};

struct Abandon {
  void operator()(Event* event) const { event->abandon(); }
};
template <class E>
using EventPtr = std::unique_ptr<E, Abandon>;

}  // namespace perilune::runtime::uring
