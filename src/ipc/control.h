// The contract between tqfpm's processes: descriptors, messages, environment.
//
// This header is the whole of it and is shared by the master, the dispatcher, the spawner and the preload
// library inside php-cgi. The library has libc only, so there are plain structs and constants here, no C++ library.
// All messages go over SOCK_SEQPACKET sockets between processes of one binary (or one installation): fixed-size structs
// in host byte order, one message a packet, descriptors in SCM_RIGHTS of the same packet.
#pragma once

#include <stdint.h>

namespace tqfpm::ipc {

// ---------------------------------------------------------------------------------------------------------------
// master -> dispatcher: descriptors at fixed numbers in `tqfpm --dispatcher`. Those marked (opt) may be closed.
enum DispatcherFd : int {
  kControlFd = 3,       // SOCK_SEQPACKET to the master, MasterMessage/DispatcherMessage
  kConfigFd = 4,        // memfd: [global] and the one pool as canonical INI (what -tt prints)
  kScoreboardFd = 5,    // memfd: the pool's scoreboard, shared by the pool's generations
  kErrorLogFd = 6,      // where log lines go
  kAccessLogFd = 7,     // (opt) access.log
  kSlowLogFd = 8,       // (opt) slowlog
  kListenFd = 9,        // the pool's listening socket
  kStatusListenFd = 10, // (opt) pm.status_listen
  kProcessesFd = 11     // memfd: status::ProcessBoard, shared by all dispatchers
};
inline constexpr int kLastDispatcherFd = kProcessesFd;

enum class MasterMessage : uint32_t {
  kDrain = 1,  // stop accepting, finish what is accepted and queued, exit 0; argument: deadline in ms, 0 = none;
               // + (opt) a SOCK_SEQPACKET socket to the next generation, which idle connections are handed to
  kStop = 2,   // end at once, workers too
  kReopen = 3, // + descriptors in the order of mask's bits, lowest first
  kPing = 5,   // answer kAlive
  kAdopt = 4,  // + the other end of the socket of kDrain: packets of {peer address} + a web server's connection
};
struct MasterRequest {
  MasterMessage type;
  uint32_t mask; // kReopen: bit 0 error log, bit 1 access log, bit 2 slow log
  uint64_t argument;
};

enum class DispatcherMessage : uint32_t {
  kReady = 1,    // template (or first worker) is up; the pool can serve
  kFailed = 2,   // cannot serve; text says why; the dispatcher exits afterwards
  kAlive = 5,    // answers kPing
  kDraining = 4, // takes no new connections any more
  kRenew = 3,    // serves, but cannot start templates any more: start a new generation and drain this one
};
struct DispatcherReport {
  DispatcherMessage type;
  uint32_t length; // bytes of text used
  char text[1016]; // for kFailed: the reason, for a log line
};

// ---------------------------------------------------------------------------------------------------------------
// dispatcher -> spawner: start one php-cgi, or read one. The spawner runs as the pool's user, forks twice and execs;
// the process becomes a child of the dispatcher (a subreaper), which alone waits for it. A worker is read without
// stopping it: by a process of its own user, which needs no capability for that.
enum class SpawnKind : uint32_t {
  kTemplate = 1, // descriptors: control (TemplateFd), stdout, stderr, (opt) settings
  kWorker = 2,   // php.spawn = exec; descriptors: listening socket (becomes fd 0), stdout, stderr, (opt) settings
  kTrace = 3,    // no descriptors; the answer is a TraceReply
  kWeigh = 4,    // no descriptors; how much memory a worker has
  kLook = 5,     // no descriptors; a LookRequest: which part of a path is the script
};
// An order to start a php-cgi, and no question.
inline bool is_order(SpawnKind kind) {
  return kind == SpawnKind::kTemplate || kind == SpawnKind::kWorker;
}
// settings: a memory file with [global] and the one pool as canonical INI; without it the pool is as kConfigFd has it.
struct SpawnerRequest {
  SpawnKind kind;
  uint32_t id;     // echoed in the reply
  int32_t pid;     // kTrace, kWeigh: the worker's
  uint32_t depth;  // kTrace: frames at most
  uint32_t budget; // kTrace: milliseconds that reading may take
};
inline constexpr uint32_t kLookPath = 4096;
struct LookRequest {
  SpawnKind kind;
  uint32_t id;
  uint32_t length;      // bytes of path
  char path[kLookPath]; // as workers see it, in their root; the packet ends where the path does
};
struct SpawnerReply { // for all but kTrace
  SpawnKind kind;
  uint32_t id;
  int32_t pid;     // > 0: started; -1: not. kWeigh: as in the request
  int32_t stage;   // with pid -1: sys::ExecStage
  int32_t errno_;  // with pid -1
  uint32_t memory; // kWeigh: proportional set size in KiB; 0: not known. kLook: bytes of path that are the script
};
enum class TraceResult : uint32_t {
  kTrace = 1, // text; perhaps also why it is no longer
  kNone = 2,  // no text this time; reason
  kNever = 3, // no text for any worker of this php-cgi; reason
};
inline constexpr uint32_t kTraceText = 60 * 1024;
struct TraceReply {
  SpawnKind kind;
  uint32_t id;
  TraceResult result;
  uint32_t resident;     // KiB; 0: not known
  uint32_t proportional; // KiB
  uint32_t length;       // bytes of text
  char reason[160];      // zero-terminated
  char text[kTraceText]; // lines for the slow log; the packet ends where the text does
};

// ---------------------------------------------------------------------------------------------------------------
// dispatcher <-> template (the preload library in a php-cgi that never serves).
//
// The one variable of the template's environment, removed by the library before anything else sees it; where it is not,
// the library does nothing:
inline constexpr char kEnvControlFd[] = "TQFPM_TEMPLATE_FD"; // decimal number of the control socket
// PHP_FCGI_MAX_REQUESTS is set to 0 for php-cgi and removed, too, once php-cgi has read it (at its first accept()).

inline constexpr int kTemplateControlFd = 3;
inline constexpr int kTemplateLibraryFd = 4; // the library itself, LD_PRELOADed from /proc/self/fd; it closes it
inline constexpr int kTemplateSetupFd = 5;   // a WorkerSetup in a sealed memory file; it closes it

// What a worker is made to be. The library reads it once, for all workers of the template; with php.spawn = exec the
// spawner does the same to each php-cgi before it execs it. Texts end with a zero; empty: none.
inline constexpr uint32_t kPathText = 4096;
inline constexpr uint32_t kTitleText = 256;
struct WorkerSetup {
  uint32_t size;        // of this struct: a library of another version does nothing
  int32_t dispatcher;   // a worker whose parent is another one exits
  int32_t tracer;       // the spawner, which may read workers (slow log)
  uint8_t dumpable;     // 0: workers are not dumpable (process.dumpable)
  uint8_t subreaper;    // 1: a worker keeps its descendants below itself (process.kill_descendants)
  uint8_t own_scan_dir; // 1: PHP_INI_SCAN_DIR is ours, removed once it has been read
  uint8_t reserved;
  char chroot[kPathText];           // workers chroot here (needs CAP_SYS_CHROOT)
  char chdir[kPathText];            // workers change to this directory, after chroot
  char apparmor[kPathText];         // workers change to this profile (apparmor_hat)
  char apparmor_folder[kTitleText]; // where AppArmor's files of a process are
  char worker_title[kTitleText];    // what ps shows for a worker
  char template_title[kTitleText];  // what ps shows for the template
  char preload[kPathText];          // the operator's own LD_PRELOAD, restored
};

enum class TemplateRequestType : uint32_t {
  kSpawn = 1, // + channel, stdout, stderr of the worker
};
struct TemplateRequest {
  TemplateRequestType type;
  uint32_t slot;       // worker slot, echoed in WorkerReport
  uint32_t generation; // of the slot, echoed
  uint32_t reserved;
};
// What php.ini and the pool have set for PHP, of what tqfpm decides in its place.
enum PhpFlag : uint32_t { kFixPathInfo = 1, kDiscardPath = 2, kDocRoot = 4, kUserDir = 8 };
struct PhpFacts {
  uint32_t version; // as PHP_VERSION_ID; 0: before 8.3
  uint32_t flags;   // of PhpFlag
};
enum class TemplateReplyType : uint32_t {
  kLoaded = 3,      // php-cgi runs with the library and is initialising; sent once, first
  kReady = 1,       // php-cgi has initialised and called accept(); sent once
  kSpawnFailed = 2, // fork failed; errno_ says why; the channel is closed
};
struct TemplateReply {
  TemplateReplyType type;
  uint32_t slot;
  uint32_t generation;
  int32_t errno_;
  int32_t pid;    // the template's own
  PhpFacts facts; // kReady
};

// ---------------------------------------------------------------------------------------------------------------
// worker <-> dispatcher, over the worker's channel. Closing the channel ends an idle worker in order.
enum class WorkerReportType : uint32_t {
  kHello = 1,     // first message; pid is set
  kAccepting = 2, // php-cgi has called accept(): it has no connection and wants one
  kStatus = 4,    // a script has called fpm_get_status(): it waits for ChannelMessage::kStatus
  kFailed = 3,    // could not chroot, chdir or drop a capability; stage and errno_ say what; the worker exits
};
enum class WorkerStage : uint32_t {
  kNone = 0,
  kChroot = 1,
  kChdir = 2,
  kCapabilities = 3,
  kParent = 4,
  kFds = 5,
  kAppArmor = 6
};
struct WorkerReport {
  WorkerReportType type;
  uint32_t slot;
  uint32_t generation;
  int32_t pid;
  WorkerStage stage;
  int32_t errno_;
};
// In the worker's connection, among the records of an answer: fastcgi_finish_request(), the answer is complete and the
// script goes on. Type of a FastCGI record without content, not one of the specification's.
inline constexpr uint8_t kFinishedRecord = 201;
// What every php-cgi is started with; the library recognises PHP's settings by it.
inline constexpr char kOwnSetting[] = "fastcgi.logging=";
// dispatcher -> worker: one packet + one descriptor.
enum class ChannelMessage : uint32_t {
  kConnection = 1, // a stream socketpair end that php-cgi takes for an accepted connection
  kStatus = 2,     // a sealed memory file with what status/worker_status.h describes
};

} // namespace tqfpm::ipc
