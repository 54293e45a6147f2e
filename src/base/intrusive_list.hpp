// SPDX-License-Identifier: Apache-2.0
// A doubly linked list threaded through its elements: O(1) everywhere, no allocation, an element leaves by
// itself when it dies. Tag lets one object stand in several lists: derive from ListNode<TagA>,
// ListNode<TagB>.
#pragma once

#include <cstddef>

#include "base/assert.hpp"

namespace perilune {

template <class Tag>
class ListNode {
 public:
  ListNode() noexcept = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  [[nodiscard]] bool linked() const noexcept { return next_ != nullptr; }
  void unlink() noexcept {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = nullptr;
  }

 private:
  template <class T, class U>
  friend class IntrusiveList;
  ListNode* next_ = nullptr;
  ListNode* prev_ = nullptr;
};

template <class T, class Tag = T>
class IntrusiveList {
  using Node = ListNode<Tag>;

 public:
  IntrusiveList() noexcept { head_.next_ = head_.prev_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    clear();
    head_.next_ = head_.prev_ = nullptr;
  }

  [[nodiscard]] bool empty() const noexcept { return head_.next_ == &head_; }
  void push_back(T& element) noexcept { insert_before(head_, element); }
  void push_front(T& element) noexcept { insert_before(*head_.next_, element); }
  [[nodiscard]] T& front() noexcept {
    PERILUNE_ASSERT(!empty());
    return as_element(head_.next_);
  }
  [[nodiscard]] T& back() noexcept {
    PERILUNE_ASSERT(!empty());
    return as_element(head_.prev_);
  }
  T& pop_front() noexcept {
    T& element = front();
    node(element).unlink();
    return element;
  }
  void clear() noexcept {
    while (!empty()) head_.next_->unlink();
  }
  static void remove(T& element) noexcept { node(element).unlink(); }
  // Moves every element of `other` to the end of this list.
  void splice_back(IntrusiveList& other) noexcept {
    while (!other.empty()) push_back(other.pop_front());
  }
  // Calls visit(element) for each; visit may unlink (or destroy) the element it is given, and no other.
  template <class Visit>
  void for_each(Visit visit) {
    for (Node* n = head_.next_; n != &head_;) {
      Node* next = n->next_;
      visit(as_element(n));
      n = next;
    }
  }
  template <class Predicate>
  [[nodiscard]] T* find(Predicate predicate) {
    for (Node* n = head_.next_; n != &head_; n = n->next_) {
      if (predicate(as_element(n))) return &as_element(n);
    }
    return nullptr;
  }

 private:
  static Node& node(T& element) noexcept { return static_cast<Node&>(element); }
  static T& as_element(Node* n) noexcept { return static_cast<T&>(*n); }
  void insert_before(Node& place, T& element) noexcept {
    Node& n = node(element);
    PERILUNE_ASSERT(!n.linked());
    n.next_ = &place;
    n.prev_ = place.prev_;
    place.prev_->next_ = &n;
    place.prev_ = &n;
  }
  Node head_;
};

}  // namespace perilune
