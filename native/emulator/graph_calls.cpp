#include <algorithm>
#include <utility>
#include <vector>

#include "emulator/calls.h"

// The runtime interface: graphs.
using namespace baton::emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Stream> stream = find_stream(handle);
    require(stream != queues().null_stream(stream->device), cudaErrorStreamCaptureUnsupported);
    require(stream->capture == nullptr, cudaErrorIllegalState);
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream.get();
    stream->capture->mode = mode;
    stream->capture->thread = std::this_thread::get_id();
    stream->frontier.clear();
    queues().captures.push_back(stream->capture);
  });
}

namespace {

// Whether the nodes that `frontier` names follow, by however many steps, all others.
bool joined(const std::vector<Node>& nodes, const std::vector<int>& frontier) {
  std::vector<bool> reachable(nodes.size());
  std::vector<int> open = frontier;
  while (!open.empty()) {
    const int node = open.back();
    open.pop_back();
    if (reachable[node]) continue;
    reachable[node] = true;
    open.insert(open.end(), nodes[node].after.begin(), nodes[node].after.end());
  }
  return std::find(reachable.begin(), reachable.end(), false) == reachable.end();
}

}  // namespace

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return call([&] {
    *graph = nullptr;
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Stream> stream = find_stream(handle);
    const std::shared_ptr<Capture> capture = stream->capture;
    require(capture != nullptr, cudaErrorIllegalState);
    require(capture->origin == stream.get(), cudaErrorStreamCaptureUnmatched);
    require(capture->mode == cudaStreamCaptureModeRelaxed || capture->thread == std::this_thread::get_id(),
            cudaErrorStreamCaptureWrongThread);
    const bool complete = joined(capture->graph.nodes, stream->frontier);
    queues().end(capture);
    require(!capture->invalid, cudaErrorStreamCaptureInvalidated);
    require(complete, cudaErrorStreamCaptureUnjoined);
    auto recorded = std::make_unique<Graph>(std::move(capture->graph));
    *graph = reinterpret_cast<cudaGraph_t>(recorded.get());
    queues().graphs[*graph] = std::move(recorded);
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Capture> capture = find_stream(handle)->capture;
    *status = capture == nullptr ? cudaStreamCaptureStatusNone
              : capture->invalid ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    const auto found = queues().graphs.find(graph);
    require(found != queues().graphs.end() && nodes == nullptr, cudaErrorInvalidValue);
    *count = found->second->nodes.size();
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    const auto found = queues().graphs.find(graph);
    require(found != queues().graphs.end(), cudaErrorInvalidValue);
    const auto nodes = std::make_shared<std::vector<Node>>(found->second->nodes);
    *exec = reinterpret_cast<cudaGraphExec_t>(nodes.get());
    queues().executables[*exec] = nodes;
  });
}

namespace {

std::shared_ptr<const std::vector<Node>> find_executable(cudaGraphExec_t exec) {
  const std::lock_guard lock(queues().mutex);
  const auto found = queues().executables.find(exec);
  require(found != queues().executables.end(), cudaErrorInvalidValue);
  return found->second;
}

}  // namespace

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
  return call([&] { find_executable(exec); });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return call([&] { add(stream, [nodes = find_executable(exec)] { return queues().run_graph(*nodes); }); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    require(queues().executables.erase(exec) > 0, cudaErrorInvalidValue);
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    require(queues().graphs.erase(graph) > 0, cudaErrorInvalidValue);
  });
}
