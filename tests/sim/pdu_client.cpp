// SPDX-License-Identifier: Apache-2.0
#include "sim/pdu_client.hpp"

#include <utility>

namespace perilune::sim {

PduClient::PduClient(SimLoop& loop, const runtime::Endpoint& portal, iscsi::InitiatorLoginConfig login,
                     Observer& observer)
    : loop_(loop),
      observer_(observer),
      login_(std::move(login), iscsi::RandomFill::to<&runtime::Random::fill>(loop.random())),
      decoder_(limits::max_recv_data_segment_bytes) {
  connecting_ = loop_.connect(portal, {}, *this);
}

void PduClient::on_connected(Result<std::unique_ptr<runtime::Stream>> stream) {
  connecting_.reset();
  if (!stream) {
    end();
    return;
  }
  stream_ = std::move(*stream);
  stream_->set_handler(*this);
  stream_->receive();
  step(login_.start());
}

void PduClient::step(iscsi::InitiatorLogin::Step step) {
  using Step = iscsi::InitiatorLogin::Step;
  switch (step) {
    case Step::send:
      push(login_.request().bhs.data(), login_.request().data());
      break;
    case Step::failed:
      drop();
      break;
    case Step::complete:
      full_feature_ = true;
      observer_.on_login(*this);
      break;
  }
}

void PduClient::push(const std::uint8_t* bhs, Bytes data) {
  std::array<std::uint8_t, iscsi::bhs_bytes> header;
  std::copy(bhs, bhs + iscsi::bhs_bytes, header.begin());
  store_be24(&header[5], static_cast<std::uint32_t>(data.size()));
  queue_.insert(queue_.end(), header.begin(), header.end());
  queue_.insert(queue_.end(), data.begin(), data.end());
  queue_.resize(queue_.size() + (4 - data.size() % 4) % 4);
  flush();
}

void PduClient::flush() {
  if (!sending_.empty() || queue_.empty() || stream_ == nullptr || over_) return;
  sending_.swap(queue_);
  iov_ = {sending_.data(), sending_.size()};
  stream_->send({&iov_, 1});
}

void PduClient::on_sent(int result) {
  if (result < 0) {
    drop();
    return;
  }
  sending_.erase(sending_.begin(), sending_.begin() + result);
  if (!sending_.empty()) queue_.insert(queue_.begin(), sending_.begin(), sending_.end());
  sending_.clear();
  flush();
}

void PduClient::on_received(int result, Bytes data) {
  if (over_) return;
  if (result <= 0) {
    drop();
    return;
  }
  using Step = iscsi::PduDecoder::Event;
  while (!over_) {
    const Step event = decoder_.next(data);
    if (event == Step::need_more) break;
    if (event == Step::error) return drop();
    if (event == Step::header) {
      decoder_.collect();
    } else if (full_feature_) {
      observer_.on_pdu(*this, decoder_.bhs(), decoder_.data());
    } else {
      step(login_.receive(decoder_.bhs(), decoder_.data()));
    }
  }
  if (!over_) stream_->receive();
}

void PduClient::drop() {
  if (over_) return;
  if (stream_ != nullptr) stream_->close();
  end();
}

void PduClient::end() {
  over_ = true;
  connecting_.reset();
  observer_.on_end(*this);
}

void PduClient::on_closed() {
  over_ = true;
  stream_.reset();
}

}  // namespace perilune::sim
