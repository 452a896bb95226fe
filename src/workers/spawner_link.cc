#include "workers/spawner_link.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/result.h"
#include "sys/socket.h"

namespace tqfpm::workers {

namespace {
constexpr unsigned kReadsPerTurn = 64;
constexpr std::size_t kMostLooks = 32; // without an answer
constexpr int kLookPatience = 6;       // times the limit of an order
constexpr char kGone[] = "the spawner has gone";
constexpr std::size_t kTraceHead = offsetof(ipc::TraceReply, text);
} // namespace

SpawnerLink::SpawnerLink(sys::EventLoop &loop, sys::Fd control, Duration silence)
    : loop_(loop), control_(std::move(control)), buffer_(sizeof(ipc::TraceReply)),
      watch_(loop, control_.get(), [this](unsigned) { readable_ = true; }), silence_(silence), timer_(loop, [] {}) {
  sys::refuse_descriptors(control_.get());
  watch_.set(sys::kReadable);
}

std::uint32_t SpawnerLink::open_question(ipc::SpawnKind kind, OnSpawnerAnswer on_answer, Duration patience) {
  while (next_id_ == 0 || pending_.contains(next_id_))
    ++next_id_;
  const std::uint32_t id = next_id_++;
  const TimePoint due = patience == Duration::max() ? TimePoint::max() : loop_.now() + patience;
  pending_[id] = Question{kind, std::move(on_answer), due};
  give_up_at_ = std::min(give_up_at_, due);
  timer_.no_later_than(due);
  return id;
}

void SpawnerLink::refuse(std::uint32_t id) {
  const std::string why = alive_ ? std::string("the spawner does not take orders: ") + strerror(errno) : kGone;
  const auto found = pending_.find(id);
  untold_.push_back(Untold{std::move(found->second.on_answer), why});
  pending_.erase(found);
  timer_.no_later_than(loop_.now()); // a round, also when this was asked at the end of one
}

void SpawnerLink::ask(ipc::SpawnerRequest request, std::span<const int> fds, OnSpawnerAnswer on_answer,
                      Duration patience) {
  request.id = open_question(request.kind, std::move(on_answer), patience);
  if (alive_ && sys::send_packet(control_.get(), &request, sizeof request, fds))
    sent(request.kind);
  else
    refuse(request.id);
}

void SpawnerLink::sent(ipc::SpawnKind kind) {
  ++owed_;
  owed_orders_ += ipc::is_order(kind) ? 1 : 0;
  if (owed_ == 1 || (ipc::is_order(kind) && owed_orders_ == 1))
    await();
}

// A look, or what a worker's memory says, may take as long as a file system stands; an order may not.
void SpawnerLink::await() {
  silent_at_ = TimePoint::max();
  if (owed_ == 0 || silence_ == Duration::max())
    return;
  silent_at_ = loop_.now() + (owed_orders_ > 0 ? silence_ : silence_ * kLookPatience);
  timer_.no_later_than(silent_at_);
}

void SpawnerLink::notice_silence(TimePoint now) {
  if (alive_ && now >= silent_at_ && !readable_)
    close();
}

void SpawnerLink::look(std::string_view path, OnSpawnerAnswer on_answer, Duration patience) {
  TQFPM_ASSERT(path.size() <= ipc::kLookPath);
  ipc::LookRequest request{};
  request.kind = ipc::SpawnKind::kLook;
  request.id = open_question(request.kind, std::move(on_answer), patience);
  request.length = static_cast<std::uint32_t>(path.size());
  memcpy(request.path, path.data(), path.size());
  waiting_looks_.emplace_back(reinterpret_cast<const char *>(&request), offsetof(ipc::LookRequest, path) + path.size());
  send_looks();
}

// Some at a time, so that orders for templates and workers always have room in the socket.
void SpawnerLink::send_looks() {
  while (!waiting_looks_.empty() && (!alive_ || looks_ < kMostLooks)) {
    const std::string packet = std::move(waiting_looks_.front());
    waiting_looks_.pop_front();
    ipc::LookRequest head{};
    memcpy(&head, packet.data(), offsetof(ipc::LookRequest, path));
    if (!pending_.contains(head.id))
      continue; // given up meanwhile
    if (alive_ && sys::send_packet(control_.get(), packet.data(), packet.size(), {})) {
      ++looks_;
      sent(head.kind);
    } else {
      refuse(head.id);
    }
  }
}

bool SpawnerLink::step(TimePoint now) {
  if (untold_.empty()) {
    readable_ = readable_ || (alive_ && now >= silent_at_); // perhaps nobody has had any time
    while (readable_ && reads_ < kReadsPerTurn) {
      ++reads_;
      if (read())
        return true;
    }
    if (gone_ && alive_ && !readable_) // and it has left nothing more to read
      close();
    notice_silence(now);
    give_up(now);
  }
  if (untold_.empty())
    return false;
  const Untold next = std::move(untold_.front());
  untold_.pop_front();
  SpawnerAnswer answer;
  answer.why = next.why;
  next.on_answer(answer);
  return true;
}

// True: an answer was told.
bool SpawnerLink::read() {
  const ssize_t got = sys::receive_plain(control_.get(), buffer_.data(), buffer_.size());
  if (got < 0 && errno == EAGAIN) {
    readable_ = false;
    return false;
  }
  if (got > 0 && static_cast<std::size_t>(got) <= buffer_.size())
    return heard(static_cast<std::size_t>(got));
  close();
  return false;
}

bool SpawnerLink::heard(std::size_t length) {
  struct Head {
    ipc::SpawnKind kind;
    std::uint32_t id;
  } head{};
  memcpy(&head, buffer_.data(), std::min(length, sizeof head));
  const bool is_trace = head.kind == ipc::SpawnKind::kTrace;
  SpawnerAnswer answer;
  bool good = length >= sizeof head;
  if (good && is_trace) {
    if (trace_ == nullptr)
      trace_ = std::make_unique<ipc::TraceReply>();
    memcpy(trace_.get(), buffer_.data(), length);
    trace_->reason[sizeof trace_->reason - 1] = 0;
    answer.trace = trace_.get();
    good = length >= kTraceHead && trace_->length == length - kTraceHead;
  } else if (good) {
    memcpy(&answer.reply, buffer_.data(), std::min(length, sizeof answer.reply));
    good = length == sizeof answer.reply;
  }
  const auto found = pending_.find(head.id);
  if (!good || (found != pending_.end() && found->second.kind != head.kind)) {
    close(); // it has said what none would
    return false;
  }
  owed_ -= owed_ > 0 ? 1 : 0;
  owed_orders_ -= ipc::is_order(head.kind) && owed_orders_ > 0 ? 1 : 0;
  await();
  if (head.kind == ipc::SpawnKind::kLook && looks_ > 0) {
    --looks_;
    send_looks();
  }
  if (found == pending_.end())
    return false; // given up
  const OnSpawnerAnswer on_answer = std::move(found->second.on_answer);
  pending_.erase(found);
  on_answer(answer);
  return true;
}

void SpawnerLink::close() {
  alive_ = false;
  readable_ = false;
  watch_.set(0);
  for (auto &[id, question] : pending_)
    untold_.push_back(Untold{std::move(question.on_answer), kGone});
  pending_.clear();
  waiting_looks_.clear();
  silent_at_ = TimePoint::max();
}

void SpawnerLink::ended() {
  gone_ = true;
  readable_ = alive_;
}

void SpawnerLink::give_up(TimePoint now) {
  if (now < give_up_at_)
    return;
  give_up_at_ = TimePoint::max();
  for (auto each = pending_.begin(); each != pending_.end();) {
    if (each->second.given_up > now) {
      give_up_at_ = std::min(give_up_at_, each->second.given_up);
      ++each;
      continue;
    }
    untold_.push_back(Untold{std::move(each->second.on_answer), "the spawner does not answer in time"});
    each = pending_.erase(each);
  }
}

void SpawnerLink::settle(TimePoint now) {
  reads_ = 0;
  if (readable_ || !untold_.empty())
    timer_.no_later_than(now);
  else
    timer_.no_later_than(std::min(give_up_at_, silent_at_));
}

} // namespace tqfpm::workers
