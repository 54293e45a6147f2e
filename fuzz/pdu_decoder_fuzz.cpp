// SPDX-License-Identifier: Apache-2.0
// The stream decoder: what it makes of a stream does not depend on how the stream was cut, and direct
// receiving gives the same as feeding.
#include <sys/uio.h>

#include <array>
#include <string>

#include "fuzz_input.hpp"
#include "iscsi/pdu/decoder.hpp"

namespace {

using perilune::Bytes;
using perilune::fuzz::Input;
using perilune::fuzz::require;
using perilune::iscsi::PduDecoder;

struct Settings {
  std::uint32_t max_data_segment;
  bool header_digest, data_digest, use_direct;
};

// Runs the stream in pieces; returns everything that came out, as text.
std::string run(Bytes stream, const Settings& settings, std::size_t piece) {
  PduDecoder decoder(settings.max_data_segment);
  decoder.set_digests(settings.header_digest, settings.data_digest);
  std::string story;
  std::vector<std::uint8_t> memory(64);
  std::array<iovec, 2> pieces{};
  bool delivered = false;
  while (true) {
    Bytes input = stream.first(std::min(piece, stream.size()));
    const std::size_t given = input.size();
    const auto event = decoder.next(input);
    require(input.size() <= given);
    stream = stream.subspan(given - input.size());
    switch (event) {
      case PduDecoder::Event::need_more:
        require(input.empty());
        if (const std::uint32_t missing = decoder.missing_bytes();
            settings.use_direct && missing > 0 && !stream.empty()) {
          std::array<iovec, 4> where{};
          const std::size_t count = decoder.direct(where);
          std::uint32_t moved = 0;
          for (std::size_t i = 0; i < count && moved < missing && !stream.empty(); ++i) {
            const std::size_t bytes =
                std::min({where[i].iov_len, stream.size(), std::size_t{missing - moved}});
            std::copy_n(stream.begin(), bytes, static_cast<std::uint8_t*>(where[i].iov_base));
            stream = stream.subspan(bytes);
            moved += static_cast<std::uint32_t>(bytes);
          }
          if (moved > 0) {
            decoder.commit_direct(moved);
            break;   // it may have been the last byte: ask again before giving up
          }
        }
        if (stream.empty()) return story;
        break;
      case PduDecoder::Event::header:
        require(decoder.data_length() <= settings.max_data_segment);
        story.append(reinterpret_cast<const char*>(decoder.bhs()), 48);
        story.append(decoder.ahs().begin(), decoder.ahs().end());
        delivered = false;
        if (decoder.bhs()[0] % 3 == 1) {
          decoder.collect();
        } else if (decoder.bhs()[0] % 3 == 2) {
          std::fill(memory.begin(), memory.end(), std::uint8_t{0});
          pieces = {iovec{memory.data(), 10}, iovec{memory.data() + 20, 44}};
          decoder.deliver_into(pieces, decoder.bhs()[1] % 16);
          delivered = true;
        }
        break;
      case PduDecoder::Event::pdu:
        story += decoder.data_digest_ok() ? 'p' : 'P';
        if (delivered) story.append(memory.begin(), memory.end());
        else story.append(decoder.data().begin(), decoder.data().end());
        break;
      case PduDecoder::Event::error:
        require(decoder.fault() != PduDecoder::Fault::none);
        return story + static_cast<char>('0' + static_cast<int>(decoder.fault()));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::uint8_t flags = input.byte();
  const Settings settings{1 + input.number(2), (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
  const std::size_t piece = 1 + input.byte();
  const std::string cut = run(input.rest(), settings, piece);
  const std::string whole =
      run(input.rest(), {settings.max_data_segment, settings.header_digest, settings.data_digest, false},
          input.rest().size() + 1);
  require(cut == whole);
  return 0;
}
