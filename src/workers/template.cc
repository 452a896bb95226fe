#include "workers/template.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "sys/socket.h"

namespace tqfpm::workers {

namespace {
constexpr char kNotLoaded[] = "php-cgi does not load libtqfpm-template.so";

constexpr Duration kLoadPatience = seconds(10);  // until LOADED: a php-cgi that ignores LD_PRELOAD never says it
constexpr Duration kReadyPatience = seconds(60); // from there until READY: OPcache's preloading may take its time
constexpr Duration kEndPatience = seconds(2);    // from the end of its control socket to its own
constexpr unsigned kReportsPerTurn = 64;         // as many workers may be on order, and all may fail

} // namespace

Result<std::unique_ptr<Template>> Template::make(sys::EventLoop &loop, const Note &note, bool whole_lines,
                                                 TimePoint now, Ends &ends) {
  auto control = sys::packet_pair();
  auto out = sys::output_pipe();
  auto err = sys::output_pipe();
  if (!control.ok() || !out.ok() || !err.ok())
    return !control.ok() ? control.error() : !out.ok() ? out.error() : err.error();
  sys::refuse_descriptors(control.value().ours.get());
  std::unique_ptr<Template> made(new Template(loop, note, std::move(control.value().ours), std::move(out.value().ours),
                                              std::move(err.value().ours), whole_lines));
  ends = Ends{std::move(control.value().theirs), std::move(out.value().theirs), std::move(err.value().theirs)};
  made->due_ = now + kLoadPatience;
  return made;
}

Template::Template(sys::EventLoop &loop, const Note &note, sys::Fd control, sys::Fd out, sys::Fd err, bool whole_lines)
    : control_(std::move(control)), watch_(loop, control_.get(),
                                           [this, note](unsigned) {
                                             readable_ = true;
                                             note();
                                           }),
      out_(loop, std::move(out), whole_lines,
           [this, note] {
             said_ = true;
             note();
           }),
      err_(loop, std::move(err), whole_lines, [this, note] {
        said_ = true;
        note();
      }) {
  watch_.set(sys::kReadable);
}

bool Template::gone(TemplateTold &told, std::string why) {
  told.what = TemplateTold::What::kGone;
  told.text = std::move(why);
  return true;
}

const char *Template::overdue() const {
  switch (state_) {
  case State::kOrdered:
    return kNotLoaded;
  case State::kLoaded:
    return "php-cgi does not get ready";
  case State::kReady:
  case State::kClosed:
    break;
  }
  return "it has closed its control socket";
}

bool Template::next(TemplateTold &told, TimePoint now) {
  while (readable_ && reports_ < kReportsPerTurn) {
    ++reports_;
    ipc::TemplateReply reply{};
    const ssize_t got = sys::receive_plain(control_.get(), &reply, sizeof reply);
    if (got < 0 && errno == EAGAIN) {
      readable_ = false;
    } else if (got > 0) {
      told = TemplateTold{};
      if (got != static_cast<ssize_t>(sizeof reply))
        return gone(told, "it has sent a report of a wrong length");
      if (heard(reply, told, now))
        return true;
    } else { // its end tells the rest
      watch_.set(0);
      readable_ = false;
      state_ = State::kClosed;
      due_ = now + kEndPatience;
    }
  }
  // Without the library php-cgi finds nothing to accept, and ends.
  if (!failure_.empty() && ended_well_ && !loaded_)
    failure_ = kNotLoaded;
  if (!failure_.empty())
    return gone(told, std::exchange(failure_, ""));
  if (now >= due_) {
    due_ = TimePoint::max();
    return gone(told, overdue());
  }
  return false;
}

bool Template::heard(const ipc::TemplateReply &reply, TemplateTold &told, TimePoint now) {
  switch (reply.type) {
  case ipc::TemplateReplyType::kLoaded:
    if (state_ != State::kOrdered)
      break;
    state_ = State::kLoaded;
    loaded_ = true;
    due_ = now + kReadyPatience;
    return false;
  case ipc::TemplateReplyType::kReady:
    if (state_ != State::kLoaded)
      break;
    state_ = State::kReady;
    was_ready_ = true;
    due_ = TimePoint::max();
    told.what = TemplateTold::What::kReady;
    told.facts = reply.facts;
    return true;
  case ipc::TemplateReplyType::kSpawnFailed:
    if (state_ != State::kReady)
      break;
    told.what = TemplateTold::What::kSpawnFailed;
    told.worker = pool::WorkerId{reply.slot, reply.generation};
    told.error = reply.errno_;
    return true;
  }
  return gone(told, "it has said what no template says");
}

void Template::drain(std::size_t room, bool at_end, TimePoint now, const Output::OnLine &on_line) {
  if (!std::exchange(said_, false) && !at_end)
    return;
  const auto limited = [&](const std::string &line) {
    if (limit_.admits(line.size(), now))
      on_line(line);
  };
  for (Output *each : {&out_, &err_}) {
    each->drain(room, limited);
    if (at_end)
      each->flush(room, limited);
  }
}

Status Template::spawn(pool::WorkerId id, std::span<const int> fds) {
  TQFPM_ASSERT(ready());
  const ipc::TemplateRequest request{ipc::TemplateRequestType::kSpawn, id.index, id.generation, 0};
  if (!sys::send_packet(control_.get(), &request, sizeof request, fds))
    return Error{std::string("the template does not take orders: ") + strerror(errno), errno};
  return success();
}

} // namespace tqfpm::workers
