#include "sys/file_writer.h"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tqfpm::sys {

namespace {

constexpr std::size_t kBatch = 64U << 10;     // bytes of one write, unless a single line is longer
constexpr Duration kGather = milliseconds(2); // after a write: what comes meanwhile needs nobody to wake the thread
constexpr Duration kRetry = seconds(1);       // a disk with room again tells nobody
constexpr Duration kHastyRetry = milliseconds(50);    // somebody waits
constexpr Duration kLastPatience = milliseconds(100); // of the destructor

// Lines that go to the file in one write.
struct Batch {
  bool opens = false; // `file` is what this and the next ones go to
  Fd file;
  std::string text;
  std::vector<std::size_t> ends; // of its lines
  std::size_t sent = 0;

  [[nodiscard]] std::size_t begin_of_cut_line() const {
    const auto after = std::upper_bound(ends.begin(), ends.end(), sent);
    return after == ends.begin() ? 0 : *(after - 1);
  }
  void drop_cut_line() { sent = *std::upper_bound(ends.begin(), ends.end(), sent); }
};

} // namespace

bool is_temporary(int code) {
  return code == EAGAIN || code == ENOSPC || code == EDQUOT || code == ENOBUFS || code == ENOMEM;
}

// --- the thread's side ----------------------------------------------------------------------------------------------

struct FileWriter::Work {
  using Lock = std::unique_lock<std::mutex>;

  explicit Work(Write with) : write(std::move(with)) {}
  void add(std::string_view line);
  void run();
  bool step(Lock &lock);
  void rest(Lock &lock);
  bool put(Batch &batch);
  bool go_on_in_newer_file(Batch &batch);
  void poke();

  const Write write;
  Fd file; // the thread's alone

  std::mutex mutex; // of all below
  std::condition_variable wake;
  std::condition_variable done;
  std::deque<Batch> batches; // without the one that is being written
  Batch spare;               // its memory is used again
  std::size_t bytes = 0;     // with the one that is being written
  std::uint64_t lost = 0;
  std::uint64_t failed = 0; // of them, in the batch that is being written
  bool flows = true;        // the last write was taken
  bool has_thread = false;
  bool in_call = false;
  bool sleeping = false; // until there is a line
  bool poked = false;    // something else is new
  bool hasty = false;    // somebody waits
  bool behind = false;   // somebody has waited in vain, and not all is written since
  bool ended = false;
};

// Writes what it can. False: the file takes no more at the moment.
bool FileWriter::Work::put(Batch &batch) {
  if (std::exchange(batch.opens, false))
    file = std::move(batch.file);
  while (batch.sent < batch.text.size()) {
    const ssize_t got = write(file.get(), batch.text.data() + batch.sent, batch.text.size() - batch.sent);
    if (got > 0) {
      batch.sent += static_cast<std::size_t>(got);
      continue;
    }
    if (got < 0 && errno == EINTR)
      continue;
    if (got == 0 || is_temporary(errno))
      return false;
    batch.drop_cut_line();
    ++failed;
  }
  return true;
}

// What a full file does not take goes to the one that has been opened since; a line that was cut is whole there.
bool FileWriter::Work::go_on_in_newer_file(Batch &batch) {
  const auto newer = std::find_if(batches.begin(), batches.end(), [](const Batch &each) { return each.opens; });
  if (newer == batches.end() || !newer->file.valid())
    return false;
  batch.sent = batch.begin_of_cut_line();
  batch.opens = std::exchange(newer->opens, false);
  batch.file = std::move(newer->file);
  return true;
}

// One batch. False: it is not written and waits in its place.
bool FileWriter::Work::step(Lock &lock) {
  Batch batch = std::move(batches.front());
  batches.pop_front();
  in_call = true;
  lock.unlock();
  const bool taken = put(batch);
  lock.lock();
  in_call = false;
  if (!batch.text.empty())
    flows = taken && failed == 0;
  lost += std::exchange(failed, 0);
  if (!taken) {
    const bool newer = go_on_in_newer_file(batch);
    batches.push_front(std::move(batch));
    return newer;
  }
  bytes -= batch.text.size();
  behind = behind && bytes > 0;
  if (bytes == 0 && hasty)
    done.notify_all();
  batch.text.clear();
  batch.ends.clear();
  batch.sent = 0;
  if (batch.text.capacity() <= 2 * kBatch)
    spare = std::move(batch);
  return true;
}

void FileWriter::Work::rest(Lock &lock) {
  wake.wait_for(lock, kGather, [this] { return poked; });
  if (batches.empty() && !poked) {
    sleeping = true;
    wake.wait(lock, [this] { return poked || !batches.empty(); });
    sleeping = false;
  }
  poked = false;
}

void FileWriter::Work::run() {
  Lock lock(mutex);
  while (true) {
    if (!batches.empty() && step(lock))
      continue;
    if (ended) // what is left now is lost
      return;
    if (batches.empty()) {
      rest(lock);
      continue;
    }
    wake.wait_for(lock, hasty ? kHastyRetry : kRetry, [this] { return poked; });
    poked = false;
  }
}

// --- the loop's side ------------------------------------------------------------------------------------------------

void FileWriter::Work::poke() {
  poked = true;
  wake.notify_one();
}

void FileWriter::Work::add(std::string_view line) {
  bytes += line.size();
  if (batches.empty() || batches.back().text.size() + line.size() > kBatch)
    batches.push_back(std::exchange(spare, Batch{}));
  Batch &batch = batches.back();
  batch.text += line;
  batch.ends.push_back(batch.text.size());
}

FileWriter::FileWriter(Write write) : work_(std::make_shared<Work>(std::move(write))) {}

FileWriter::~FileWriter() {
  Work::Lock lock(work_->mutex);
  if (!work_->has_thread)
    return;
  work_->ended = work_->hasty = true;
  work_->poke();
  (void)work_->done.wait_for(lock, kLastPatience, [this] { return work_->bytes == 0; });
}

bool FileWriter::start() {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  pthread_attr_t attributes;
  (void)::pthread_attr_init(&attributes);
  (void)::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  auto work = std::make_unique<std::shared_ptr<Work>>(work_);
  const auto body = [](void *argument) -> void * {
    const std::unique_ptr<std::shared_ptr<Work>> own(static_cast<std::shared_ptr<Work> *>(argument));
    (void)::pthread_setname_np(::pthread_self(), "log writer");
    (*own)->run();
    return nullptr;
  };
  pthread_t thread{};
  (void)::pthread_sigmask(SIG_SETMASK, &all, &before); // the thread inherits it
  const bool ok = ::pthread_create(&thread, &attributes, body, work.get()) == 0;
  (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  (void)::pthread_attr_destroy(&attributes);
  if (ok)
    (void)work.release(); // NOLINT(bugprone-unused-return-value): it is the thread's
  return ok;
}

void FileWriter::use(Fd file) {
  fd_ = file.get();
  const std::lock_guard lock(work_->mutex);
  if (!work_->batches.empty() && work_->batches.back().opens && work_->batches.back().text.empty()) {
    work_->batches.back().file = std::move(file); // no line has come for the one before
    return;
  }
  work_->batches.emplace_back();
  work_->batches.back().opens = true;
  work_->batches.back().file = std::move(file);
  work_->poke(); // to close the one before
}

bool FileWriter::add(std::string_view line) {
  Work::Lock lock(work_->mutex);
  if (work_->bytes + line.size() > kRoom)
    ++work_->lost;
  else
    work_->add(line);
  const bool owes_some = work_->lost > 0;
  if (!work_->has_thread)
    work_->has_thread = start();
  while (!work_->has_thread && !work_->batches.empty() && work_->step(lock)) { // this thread, then
  }
  const bool wake = std::exchange(work_->sleeping, false);
  lock.unlock();
  if (wake)
    work_->wake.notify_one();
  return owes_some;
}

void FileWriter::add_lost(std::uint64_t lines) {
  const std::lock_guard lock(work_->mutex);
  work_->lost += lines;
}

bool FileWriter::owes() const {
  const std::lock_guard lock(work_->mutex);
  return work_->lost > 0;
}

std::uint64_t FileWriter::take_lost() {
  const std::lock_guard lock(work_->mutex);
  return work_->flows && work_->bytes <= kRoom / 2 ? std::exchange(work_->lost, 0) : 0;
}

void FileWriter::catch_up(Duration patience) {
  Work::Lock lock(work_->mutex);
  if (work_->bytes == 0 || !work_->has_thread || work_->behind)
    return;
  work_->hasty = true;
  work_->poke();
  work_->behind = !work_->done.wait_for(lock, patience, [this] { return work_->bytes == 0; });
  work_->hasty = false;
}

bool FileWriter::wait(Duration patience) {
  Work::Lock lock(work_->mutex);
  if (work_->bytes == 0 || !work_->has_thread)
    return work_->bytes == 0;
  work_->hasty = true;
  work_->poke();
  (void)work_->done.wait_for(lock, patience, [this] { return work_->bytes == 0; });
  work_->hasty = false;
  return work_->bytes == 0;
}

bool FileWriter::in_call() const {
  const std::lock_guard lock(work_->mutex);
  return work_->in_call;
}

} // namespace tqfpm::sys
