// IP addresses and networks: who may connect.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace tqfpm {

// Addresses of both families are compared as IPv6; an IPv4 address is ::ffff:a.b.c.d there.
using IpAddress = std::array<std::uint8_t, 16>;
std::optional<IpAddress> parse_ip(std::string_view text);

struct Network {
  IpAddress address{};
  unsigned prefix = 128; // bits that count

  [[nodiscard]] bool contains(const IpAddress &other) const;
};
// "127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8". nullopt: it is none; bits behind the prefix do not matter.
std::optional<Network> parse_network(std::string_view text);

// 127.0.0.0/8, ::1 or localhost.
bool is_loopback(std::string_view host);

} // namespace tqfpm
