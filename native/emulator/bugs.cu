#include "emulator/bugs.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "emulator/sanitizer.h"

// bugs --list                                              the catalogue, and where each fault must be noticed
// bugs NAME [forward|reverse|random] [eager|deferred]      one of it: 0 and "NOT DETECTED", or not 0 and a report
// bugs --all                                               all that this build must notice or let pass
namespace baton::emulator {

namespace {

constexpr Builds kThisBuild = kAddressSanitizer ? kAddress : kThreadSanitizer ? kThread : kPlain;
constexpr int kWrongResult = 3;
constexpr int kUsage = 2;

std::vector<Bug> all_bugs() {
  std::vector<Bug> bugs;
  for (const auto& part : {memory_bugs(), thread_bugs(), hopper_bugs(), host_bugs()}) {
    bugs.insert(bugs.end(), part.begin(), part.end());
  }
  return bugs;
}

std::string builds(Builds builds) {
  if (builds == kNowhere) return "correct";
  if (builds == kEverywhere) return "plain, address, thread";
  std::string names;
  const std::pair<Builds, const char*> parts[] = {{kPlain, "plain"}, {kAddress, "address"}, {kThread, "thread"}};
  for (const auto& [build, name] : parts) {
    if (builds & build) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

int run(const Bug& bug, const Options& options) {
  configure(options);
  if (!bug.run()) return kWrongResult;
  std::puts("NOT DETECTED");
  return 0;
}

// In a process of its own, which may end as it likes. Its reports are not shown.
bool passes(const Bug& bug, const Options& options) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stdout);
    std::freopen("/dev/null", "w", stderr);
    std::exit(run(bug, options));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int run_all() {
  int passed = 0, failed = 0, skipped = 0;
  for (const Bug& bug : all_bugs()) {
    if (bug.noticed != kNowhere && !(bug.noticed & kThisBuild)) {
      skipped++;
      continue;
    }
    // A fault counts as noticed if one schedule shows it; a correct program passes under all of them.
    bool noticed = false;
    for (const Order order : {Order::forward, Order::reverse, Order::random}) {
      for (const Async async : {Async::eager, Async::deferred}) {
        const bool decided = noticed;
        noticed = decided || !passes(bug, {.order = order, .async = async});
      }
    }
    const bool right = noticed == (bug.noticed != kNowhere);
    (right ? passed : failed)++;
    if (!right) std::printf("%s: %s\n", bug.name, noticed ? "a correct program was reported" : "was not noticed");
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed == 0 ? 0 : 1;
}

int list() {
  for (const Bug& bug : all_bugs()) {
    std::printf("%-30s %-24s %s\n", bug.name, builds(bug.noticed).c_str(), bug.what);
  }
  return 0;
}

int usage() {
  std::fprintf(stderr, "bugs --list | --all | NAME [forward|reverse|random] [eager|deferred]\n");
  return kUsage;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return usage();
  const std::string name = arguments[1];
  if (name == "--list") return list();
  if (name == "--all") return run_all();
  Options options;
  for (int i = 2; i < count; i++) {
    const std::string word = arguments[i];
    if (word == "forward") {
      options.order = Order::forward;
    } else if (word == "reverse") {
      options.order = Order::reverse;
    } else if (word == "random") {
      options.order = Order::random;
    } else if (word == "eager") {
      options.async = Async::eager;
    } else if (word == "deferred") {
      options.async = Async::deferred;
    } else {
      return usage();
    }
  }
  for (const Bug& bug : all_bugs()) {
    if (bug.name == name) return run(bug, options);
  }
  return usage();
}

}  // namespace baton::emulator

// A race ends the process at once, which by default would sleep for a second first.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:atexit_sleep_ms=0"; }

int main(int count, char** arguments) { return baton::emulator::main(count, arguments); }
