#include "web/handover.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sys/socket.h"

namespace tqfpm::web {

namespace {

constexpr std::size_t kPeerSize = 64; // a packet is {peer address} and the connection

} // namespace

Handover::Outcome Handover::give(int connection, const std::string &peer) {
  if (!socket_.valid())
    return Outcome::kGone;
  char packet[kPeerSize] = {};
  (void)peer.copy(packet, sizeof packet - 1);
  const int fds[] = {connection};
  if (sys::send_packet(socket_.get(), packet, sizeof packet, fds))
    return Outcome::kGiven;
  if (errno == EAGAIN)
    return Outcome::kFull;
  socket_.reset(); // the successor has gone
  return Outcome::kGone;
}

void Inheritance::from(sys::Fd socket) {
  (void)sys::set_nonblocking(socket.get(), true);
  Source source{std::move(socket), nullptr};
  source.watch = std::make_unique<sys::IoWatch>(loop_, source.socket.get(), [this](unsigned) { noted_ = true; });
  source.watch->set(sys::kReadable);
  sources_.push_back(std::move(source));
}

std::vector<Inheritance::Connection> Inheritance::take(std::size_t most) {
  std::vector<Connection> taken;
  for (Source &source : sources_) {
    while (taken.size() < most && source.watch->events() != 0) {
      char peer[kPeerSize] = {};
      sys::Packet packet = sys::receive_packet(source.socket.get(), peer, sizeof peer);
      if (packet.length < 0 && errno == EAGAIN)
        break;
      if (packet.length <= 0)
        source.watch->set(0); // it has given all
      else if (packet.fds.size() == 1)
        taken.push_back({std::move(packet.fds.front()), std::string(peer, strnlen(peer, sizeof peer))});
    }
  }
  std::erase_if(sources_, [](const Source &each) { return each.watch->events() == 0; });
  return taken;
}

} // namespace tqfpm::web
