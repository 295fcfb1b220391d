// ops list | test | bench: every op of the forward pass by itself, on any device this program was built for.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <string>
#include <vector>

#include "core/error.h"
#include "ops/bench.h"
#include "ops/cases.h"
#include "ops/device.h"
#include "ops/test.h"

namespace {

using namespace baton::ops;

constexpr const char* kUsage =
    "usage: ops list | test | bench [options]\n"
    "  --device NAME      cpu, cpu:scalar|neon|avx2|avx512|amx, cuda, cuda:N, cuda-emu, cuda-emu:8.0 (default cpu)\n"
    "  --op PATTERN       ops whose name is PATTERN; * stands for anything\n"
    "  --case PATTERN     cases whose name is PATTERN; may be given more than once\n"
    "  --quick            small shapes only, as on cuda-emu\n"
    "  --sweep            bench: lines of cases that differ in one thing, instead of single ones\n"
    "  --repeats N        bench: timings of a case, of which the median counts (default 7)\n"
    "  --call-seconds S   bench: leaves out cases one call of which would take longer\n"
    "  --seed N           of the inputs (default: another one every time)\n"
    "  --schedule ORDER   cuda-emu: forward, reverse or random (default: one after another)\n"
    "  --async MOMENT     cuda-emu: eager or deferred (default: one after the other)\n"
    "  --every N          test: only the first of every N cases of an op\n"
    "  --seconds N        begins no further case after N seconds\n"
    "  --threads N        of a cpu (default: one per core)\n"
    "  --cublaslt PATH    of a GPU: that library, or auto: any the loader finds. test: it computes the products of\n"
    "                     bf16, which then need not obey the law; bench: it is timed with ours (cuda: auto)\n"
    "  --json FILE        bench: the table as JSON\n";

struct Options {
  std::string command;
  std::string device = "cpu", op = "*", schedule, async, cublaslt, json;
  std::vector<std::string> names;  // of cases; none: all
  bool quick = false, sweep = false;
  uint64_t seed = uint64_t(time(nullptr));
  double seconds = 1e9, call_seconds = 1e9;
  int every = 1;
  int repeats = 7;
  int threads = 0;
};

[[noreturn]] void usage(const std::string& complaint) {
  fprintf(stderr, "ops: %s\n%s", complaint.c_str(), kUsage);
  exit(2);
}

double number(const std::string& option, const std::string& text, double low, double high) {
  char* end = nullptr;
  const double value = strtod(text.c_str(), &end);
  if (text.empty() || *end != 0 || !(value >= low && value <= high)) {
    usage(option + ": expected a number from " + std::to_string(int64_t(low)) + " on, got '" + text + "'");
  }
  return value;
}

std::string one_of(const std::string& option, const std::string& text, std::initializer_list<const char*> choices) {
  for (const char* choice : choices) {
    if (text == choice) return text;
  }
  usage(option + ": unknown value '" + text + "'");
}

Options parse(int count, char** arguments) {
  if (count < 2) usage("expected a command");
  Options options;
  options.command = one_of("command", arguments[1], {"list", "test", "bench"});
  for (int i = 2; i < count; i++) {
    const std::string option = arguments[i];
    if (option == "--quick" || option == "--sweep") {
      (option == "--quick" ? options.quick : options.sweep) = true;
      continue;
    }
    if (option.rfind("--", 0) != 0) usage("expected an option, got '" + option + "'");
    const auto value = [&] {
      if (i + 1 == count) usage(option + ": expected a value");
      return std::string(arguments[++i]);
    };
    if (option == "--device") {
      options.device = value();
    } else if (option == "--op") {
      options.op = value();
    } else if (option == "--case") {
      options.names.push_back(value());
    } else if (option == "--seed") {
      options.seed = uint64_t(number(option, value(), 0, 9e15));
    } else if (option == "--schedule") {
      options.schedule = one_of(option, value(), {"forward", "reverse", "random"});
    } else if (option == "--async") {
      options.async = one_of(option, value(), {"eager", "deferred"});
    } else if (option == "--cublaslt") {
      options.cublaslt = value();
    } else if (option == "--json") {
      options.json = value();
    } else if (option == "--seconds") {
      options.seconds = number(option, value(), 0, 1e9);
    } else if (option == "--call-seconds") {
      options.call_seconds = number(option, value(), 0, 1e9);
    } else if (option == "--repeats") {
      options.repeats = int(number(option, value(), 1, 1000));
    } else if (option == "--every") {
      options.every = int(number(option, value(), 1, 1000));
    } else if (option == "--threads") {
      options.threads = int(number(option, value(), 1, 4096));
    } else {
      usage("unknown option '" + option + "'");
    }
  }
  return options;
}

// * stands for any letters, none among them.
bool matches(const char* pattern, const char* text) {
  if (*pattern == 0) return *text == 0;
  if (*pattern == '*') return matches(pattern + 1, text) || (*text != 0 && matches(pattern, text + 1));
  return *pattern == *text && matches(pattern + 1, text + 1);
}

bool any_matches(const Options& options, const std::string& name) {
  return std::any_of(options.names.begin(), options.names.end(),
                     [&](const std::string& pattern) { return matches(pattern.c_str(), name.c_str()); });
}

std::vector<OpCases> chosen_cases(const Options& options) {
  std::vector<OpCases> chosen;
  for (OpCases& op : all_cases()) {
    if (!matches(options.op.c_str(), op.op.c_str())) continue;
    std::erase_if(op.cases, [&](const Case& one) { return !options.names.empty() && !any_matches(options, one.name); });
    if (!op.cases.empty()) chosen.push_back(std::move(op));
  }
  if (chosen.empty()) usage("no case matches");
  return chosen;
}

void list(const std::vector<OpCases>& ops) {
  printf("%-18s %-6s %12s %12s  %s\n", "op", "use", "kB", "Mflop", "case");
  for (const OpCases& op : ops) {
    for (const Case& one : op.cases) {
      printf("%-18s %-6s %12.1f %12.3f  %s\n", op.op.c_str(), name_of(one.use), one.bytes / 1e3, one.operations / 1e6,
             one.name.c_str());
    }
  }
}

// With a library to hold it against, if there is one; else `reason` says why not. A real GPU looks for it unasked.
Device find_device_to_bench(const Options& options, std::string& reason) {
  const bool real_gpu = options.device.starts_with("cuda") && !options.device.starts_with("cuda-emu");
  const std::string library = options.cublaslt.empty() && real_gpu ? "auto" : options.cublaslt;
  try {
    return find_device(options.device, options.threads, library);
  } catch (const baton::Error& error) {
    if (library.empty() || std::string(error.code) != "DEVICE_UNAVAILABLE") throw;
    reason = error.what();
  }
  return find_device(options.device, options.threads, "");
}

int run(const Options& options) {
  const std::vector<OpCases> ops = chosen_cases(options);
  if (options.command == "list") {
    list(ops);
    return 0;
  }
  if (options.command == "test") {
    const Device device = find_device(options.device, options.threads, options.cublaslt);
    const TestOptions how = {options.quick, options.seed,    options.schedule,
                             options.async, options.seconds, options.every};
    return test(device, ops, how) ? 0 : 1;
  }
  std::string reason;
  const Device device = find_device_to_bench(options, reason);
  bench(device, ops,
        {.quick = options.quick,
         .sweep = options.sweep,
         .seed = options.seed,
         .repeats = options.repeats,
         .seconds = options.seconds,
         .call_seconds = options.call_seconds,
         .without_library = reason,
         .json = options.json});
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const Options options = parse(count, arguments);
  try {
    return run(options);
  } catch (const baton::Error& error) {
    fprintf(stderr, "ops: %s: %s\n", error.code, error.what());
    return std::string(error.code) == "INVALID_OPTION" ? 2 : 1;
  } catch (const std::exception& error) {
    fprintf(stderr, "ops: %s\n", error.what());
    return 1;
  }
}
