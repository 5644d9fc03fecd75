// SPDX-License-Identifier: Apache-2.0
// Owns the holders and their link.
#include "tests/cli/network_namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

namespace mempool {

NetworkNamespaces::NetworkNamespaces() {
  if (!hold(0) || !hold(1)) return;
  const std::string names[] = {fmt::format("mp{}a", ::getpid()), fmt::format("mp{}b", ::getpid())};
  if (!run(0, fmt::format("ip link add {} type veth peer name {} netns {}", names[0], names[1],
                          holders_[1]))) {
    return;
  }
  const char* const hosts[] = {kFirstHost, kSecondHost};
  for (const size_t which : {0, 1}) {
    if (!run(which, "ip link set lo up") ||
        !run(which, fmt::format("ip address add {}/24 dev {}", hosts[which], names[which])) ||
        !run(which, fmt::format("ip link set {} up", names[which]))) {
      return;
    }
  }
}

NetworkNamespaces::~NetworkNamespaces() {
  for (const pid_t holder : holders_) {
    if (holder < 0) continue;
    ::kill(holder, SIGKILL);
    ::waitpid(holder, nullptr, 0);
  }
}

std::vector<std::string> NetworkNamespaces::under(size_t which) const {
  return {"nsenter", fmt::format("--net=/proc/{}/ns/net", holders_[which]), "--"};
}

bool NetworkNamespaces::hold(size_t which) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    refusal_ = fmt::format("no pipe: {}", std::strerror(errno));
    return false;
  }
  holders_[which] = ::fork();
  if (holders_[which] == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int error = ::unshare(CLONE_NEWNET) == 0 ? 0 : errno;
    if (::write(ends[1], &error, sizeof(error)) == sizeof(error)) ::pause();
    ::_exit(0);
  }
  ::close(ends[1]);  // so that its end is seen
  int error = EIO;
  (void)!::read(ends[0], &error, sizeof(error));
  ::close(ends[0]);
  if (error != 0) refusal_ = fmt::format("no network namespace: {}", std::strerror(error));
  return error == 0;
}

bool NetworkNamespaces::run(size_t which, const std::string& command) {
  std::string line;
  for (const std::string& word : under(which)) line += word + " ";
  std::FILE* const pipe = ::popen((line + command + " 2>&1").c_str(), "re");
  std::string output;
  for (int letter = 0; pipe != nullptr && (letter = std::fgetc(pipe)) != EOF;) {
    output += static_cast<char>(letter);
  }
  if (pipe != nullptr && ::pclose(pipe) == 0) return true;
  refusal_ = fmt::format("no link between network namespaces: {}: {}", command, output);
  return false;
}

}  // namespace mempool
