#include "base/networks.h"

#include <arpa/inet.h>

#include <cstring>
#include <string>

#include "base/text.h"

namespace tqfpm {

namespace {
constexpr std::size_t kMappedBytes = 12; // of ::ffff:0:0/96
} // namespace

std::optional<IpAddress> parse_ip(std::string_view text) {
  const std::string word(text);
  IpAddress address{};
  if (::inet_pton(AF_INET6, word.c_str(), address.data()) == 1)
    return address;
  if (::inet_pton(AF_INET, word.c_str(), address.data() + kMappedBytes) != 1)
    return std::nullopt;
  memset(address.data(), 0, kMappedBytes);
  address[10] = address[11] = 0xff;
  return address;
}

std::optional<Network> parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view host = text.substr(0, slash);
  const auto address = parse_ip(host);
  if (!address)
    return std::nullopt;
  Network network{*address, 128};
  if (slash == std::string_view::npos)
    return network;
  const bool v4 = host.find(':') == std::string_view::npos;
  const auto bits = to_number(text.substr(slash + 1));
  if (!bits || *bits < 0 || *bits > (v4 ? 32 : 128))
    return std::nullopt;
  network.prefix = static_cast<unsigned>(*bits) + (v4 ? kMappedBytes * 8 : 0);
  return network;
}

bool Network::contains(const IpAddress &other) const {
  const std::size_t whole = prefix / 8;
  if (memcmp(address.data(), other.data(), whole) != 0)
    return false;
  const unsigned rest = prefix % 8;
  return rest == 0 || ((address[whole] ^ other[whole]) >> (8 - rest)) == 0;
}

bool is_loopback(std::string_view host) {
  const auto address = parse_ip(host);
  return host == "localhost" ||
         (address && (parse_network("127.0.0.0/8")->contains(*address) || parse_network("::1")->contains(*address)));
}

} // namespace tqfpm
