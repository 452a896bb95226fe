#include "dispatcher/variant.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "sys/socket.h"

namespace tqfpm::dispatcher {

namespace {

constexpr Duration kLoadPatience = seconds(10);     // until LOADED: a php-cgi that ignores LD_PRELOAD never says it
constexpr Duration kTemplatePatience = seconds(60); // from there until READY: OPcache's preloading may take its time

} // namespace

Variant::Variant(sys::EventLoop &loop, VariantOwner &owner, pool::VariantNumber number, std::string key,
                 sys::Fd settings)
    : loop_(loop), owner_(owner), number_(number), key_(std::move(key)), settings_(std::move(settings)),
      timer_(loop, [this] { due(); }) {}

void Variant::start(Duration delay) {
  if (template_ != nullptr || delayed_)
    return;
  if (delay == Duration::zero()) {
    launch();
    return;
  }
  delayed_ = true;
  timer_.at(Clock::now() + delay);
}

void Variant::launch() {
  delayed_ = false;
  auto control = sys::packet_pair();
  auto out = sys::output_pipe();
  auto err = sys::output_pipe();
  if (!control.ok() || !out.ok() || !err.ok()) {
    gone("no descriptors: " + (!control.ok() ? control.error() : !out.ok() ? out.error() : err.error()).message);
    return;
  }
  template_ = std::make_unique<Template>();
  template_->control = std::move(control.value().ours);
  template_->output = owner_.template_output(std::move(out.value().ours));
  template_->errors = owner_.template_output(std::move(err.value().ours));
  template_->watch = std::make_unique<sys::IoWatch>(loop_, template_->control.get(), [this](unsigned) { readable(); });
  template_->watch->set(sys::kReadable);
  const int fds[] = {control.value().theirs.get(), out.value().theirs.get(), err.value().theirs.get(), settings_.get()};
  timer_.at(Clock::now() + kLoadPatience);
  template_->order = owner_.order_template(*this, std::span(fds).first(settings_.valid() ? 4 : 3));
  if (template_->order == 0)
    gone(std::string("the spawner does not take orders: ") + strerror(errno));
}

bool Variant::answered(std::uint32_t id, int pid, const std::string &why) {
  if (template_ == nullptr || template_->order != id)
    return false;
  if (pid > 0)
    template_->pid = pid;
  else
    gone(why);
  return pid > 0;
}

void Variant::readable() {
  while (template_ != nullptr && template_->control.valid()) {
    ipc::TemplateReply reply{};
    const sys::Packet packet = sys::receive_packet(template_->control.get(), &reply, sizeof reply);
    if (packet.length < 0 && errno == EAGAIN)
      return;
    if (packet.length != static_cast<ssize_t>(sizeof reply)) {
      template_->watch->set(0); // its end tells the rest
      return;
    }
    heard(reply);
  }
}

void Variant::heard(const ipc::TemplateReply &reply) {
  switch (reply.type) {
  case ipc::TemplateReplyType::kLoaded:
    template_->loaded = true;
    timer_.at(Clock::now() + kTemplatePatience);
    return;
  case ipc::TemplateReplyType::kReady:
    template_->ready = true;
    ++batch_;
    facts_ = reply.facts;
    timer_.stop();
    failures = 0;
    owner_.template_ready(*this);
    return;
  case ipc::TemplateReplyType::kSpawnFailed:
    owner_.spawn_failed(pool::WorkerId{reply.slot, reply.generation}, reply.errno_);
    return;
  }
}

void Variant::due() {
  if (template_ == nullptr) {
    launch();
    return;
  }
  if (template_->pid > 0)
    (void)::kill(template_->pid, SIGKILL);
  gone(template_->loaded ? "php-cgi does not get ready" : "php-cgi does not load libtqfpm-template.so");
}

// The callback that runs may be one of its own: it is destroyed when the loop turns. It ends when its control socket
// closes.
void Variant::put_away() {
  timer_.stop();
  delayed_ = false;
  if (template_ == nullptr)
    return;
  template_->watch->set(0);
  template_->output->drain();
  template_->errors->drain();
  old_ = std::exchange(template_, nullptr);
}

void Variant::gone(const std::string &why) {
  const bool was_ready = ready();
  put_away();
  owner_.template_gone(*this, why, was_ready);
}

void Variant::renew() {
  if (!ready())
    return; // a new one is on its way
  put_away();
  launch();
}

void Variant::drop() {
  put_away();
}

Status Variant::spawn(pool::WorkerId id, std::span<const int> fds) {
  TQFPM_ASSERT(ready());
  const ipc::TemplateRequest request{ipc::TemplateRequestType::kSpawn, id.index, id.generation, 0};
  if (!sys::send_packet(template_->control.get(), &request, sizeof request, fds))
    return Error{std::string("the template does not take orders: ") + strerror(errno), errno};
  return success();
}

} // namespace tqfpm::dispatcher
