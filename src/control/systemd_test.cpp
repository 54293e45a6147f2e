// SPDX-License-Identifier: Apache-2.0
// The service manager's side is played by a datagram socket, and by a child whose environment and descriptors
// are such as a manager makes them. The expected bytes are those of sd_notify(3).
#include "control/systemd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <thread>

#include "base/temporary_folder_test.hpp"
#include "control/client.hpp"
#include "control/server.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::control {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class ServiceManager : public ::testing::Test {
 protected:
  ~ServiceManager() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"})
      ::unsetenv(name);
  }
  [[nodiscard]] static Fd bound(const std::string& path, int type) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  void listen_for_notices() {
    const std::string path = folder_ / "notify";
    notices_ = bound(path, SOCK_DGRAM);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  [[nodiscard]] std::string next_notice() const {
    char buffer[512];
    const ssize_t n = ::recv(notices_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    return n < 0 ? "(none)" : std::string(buffer, static_cast<std::size_t>(n));
  }
  // Runs `child` as a process to which a manager has passed a socket that listens at `listening`: descriptor
  // 3, LISTEN_PID its own. Returns its exit code.
  [[nodiscard]] static int run_activated(const std::string& listening, const std::function<int()>& child) {
    const Fd passed = bound(listening, SOCK_STREAM);
    EXPECT_EQ(::listen(passed.get(), 8), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      // Where the test already has it at 3, dup2 would keep its FD_CLOEXEC; nobody execs here.
      if (::dup2(passed.get(), 3) != 3) ::_exit(100);
      ::setenv("LISTEN_FDS", "1", 1);
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::_exit(child());
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "daemon.sock";
  Fd notices_;
};

TEST_F(ServiceManager, IsToldEachStateInOneDatagram) {
  listen_for_notices();
  systemd::tell_status("reading the state");
  systemd::tell_ready("serving\nMAINPID=1");  // a line of a status can not be an assignment of its own
  systemd::tell_reloading("sizes");
  systemd::tell_stopping("logging out");
  systemd::tell_alive();
  EXPECT_EQ(next_notice(), "STATUS=reading the state");
  EXPECT_EQ(next_notice(), "READY=1\nSTATUS=serving MAINPID=1");
  EXPECT_EQ(next_notice(), "RELOADING=1\nSTATUS=sizes");
  EXPECT_EQ(next_notice(), "STOPPING=1\nSTATUS=logging out");
  EXPECT_EQ(next_notice(), "WATCHDOG=1");
  EXPECT_EQ(next_notice(), "(none)");
}

TEST_F(ServiceManager, IsToldNothingWhereThereIsNone) {
  systemd::tell_ready("serving");
  EXPECT_FALSE(systemd::watchdog_limit());
  const auto socket = systemd::take_activated_socket(path_);
  ASSERT_TRUE(socket);
  EXPECT_FALSE(socket->valid());
}

TEST_F(ServiceManager, WatchesTheProcessThatItNamesAndNoOther) {
  ::setenv("WATCHDOG_USEC", "2500000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(systemd::watchdog_limit(), 2500ms);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_FALSE(systemd::watchdog_limit());
}

TEST_F(ServiceManager, PassesASocketThatIsServedAndStays) {
  std::promise<void> answered;
  const int code = run_activated(path_, [this] {
    auto server = ControlServer::start(path_, [](Request request, std::shared_ptr<Exchange> exchange) {
      exchange->finish({{"op", request.op}});
    });
    if (!server) return 1;
    auto client = ControlClient::connect(path_);
    if (!client || !client->send("hello", Json::object())) return 2;
    const auto reply = client->wait([](const Json&) {});
    if (!reply || text_of(reply->result, "op") != "hello") return 3;
    server->reset();
    return fs::exists(path_) ? 0 : 4;  // the manager's, so not ours to remove
  });
  EXPECT_EQ(code, 0);
}

TEST_F(ServiceManager, ThatListensElsewhereIsAnErrorAndNotSilence) {
  const int code = run_activated(folder_ / "other.sock", [this] {
    const auto server = ControlServer::start(path_, [](Request, std::shared_ptr<Exchange>) {});
    return !server && server.error().message.find(path_) != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

// Two loops on threads, and a watchdog over both whose keep-alives are counted.
class WatchedLoops : public ::testing::Test {
 protected:
  WatchedLoops() {
    auto loops = runtime::make_native_loops(runtime::Runtime::epoll, 2, {});
    if (!loops) throw std::runtime_error(loops.error().message);
    loops_ = std::move(*loops);
    watchdog_.emplace(std::vector<runtime::Loop*>{loops_[0].get(), loops_[1].get()}, 4ms,
                      [this] { ++alive_; });
    for (const auto& loop : loops_) threads_.emplace_back([&loop] { loop->run(); });
  }
  ~WatchedLoops() override {
    for (const auto& loop : loops_) loop->stop();
    for (std::thread& thread : threads_) thread.join();
  }
  void wait_for_keep_alives(std::uint64_t more) const {
    for (const std::uint64_t wanted = alive_ + more; alive_ < wanted;) std::this_thread::yield();
  }
  // Lets the first loop's clock reach a timer that is armed now and is as far away as 20 keep-alives are.
  void let_the_first_loop_go_on() {
    std::promise<void> fired;
    struct Once {
      std::promise<void>& done;
      void fire() { done.set_value(); }
    } once{fired};
    std::optional<runtime::Timer> timer;
    loops_[0]->post([&] {
      timer.emplace(loops_[0]->timers(), Delegate<void()>::to<&Once::fire>(once));
      timer->arm(loops_[0]->now() + 20ms);
    });
    fired.get_future().wait();
    std::promise<void> gone;
    loops_[0]->post([&] {
      timer.reset();
      gone.set_value();
    });
    gone.get_future().wait();
  }

  std::vector<std::unique_ptr<runtime::ThreadLoop>> loops_;
  std::atomic<std::uint64_t> alive_{0};
  std::optional<systemd::Watchdog> watchdog_;
  std::vector<std::thread> threads_;
};

TEST_F(WatchedLoops, AreAliveWhileAllGoOn) {
  watchdog_->start();
  wait_for_keep_alives(5);
}

TEST_F(WatchedLoops, AreNotKeptAliveByTheOthersWhenOneIsStuck) {
  watchdog_->start();
  wait_for_keep_alives(2);
  std::promise<void> stuck, release;
  loops_[1]->post([&] {
    stuck.set_value();
    release.get_future().wait();
  });
  stuck.get_future().wait();
  let_the_first_loop_go_on();  // the round under way may have passed the second loop already
  const std::uint64_t before = alive_;
  let_the_first_loop_go_on();
  EXPECT_EQ(alive_, before);
  release.set_value();
  wait_for_keep_alives(2);
}

}  // namespace
}  // namespace perilune::control
