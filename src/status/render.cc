#include "status/render.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <variant>

namespace tqfpm::status {

namespace {

using Value = std::variant<std::string, std::uint64_t>;
struct Field {
  const char *name; // php-fpm's, as in text; json and xml write it so, or with '-'
  Value value;
};

std::string local_time(std::time_t when) {
  std::tm parts{};
  ::localtime_r(&when, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%d/%b/%Y:%H:%M:%S %z", &parts)};
}

// The pool's fields in php-fpm's order. Times are text for people and numbers for programs.
std::vector<Field> pool_fields(const PoolState &s, bool numbers) {
  const Value start = numbers ? Value(static_cast<std::uint64_t>(s.start_time)) : Value(local_time(s.start_time));
  return {{"pool", s.pool},
          {"process manager", s.manager},
          {"start time", start},
          {"start since", s.start_since},
          {"accepted conn", s.accepted},
          {"listen queue", s.queue},
          {"max listen queue", s.max_queue},
          {"listen queue len", s.queue_size},
          {"idle processes", s.idle},
          {"active processes", s.active},
          {"total processes", s.total},
          {"max active processes", s.max_active},
          {"max children reached", s.max_children_reached},
          {"slow requests", s.slow_requests}};
}

std::vector<Field> worker_fields(const WorkerView &w, bool numbers) {
  const Value start = numbers ? Value(static_cast<std::uint64_t>(w.start_time)) : Value(local_time(w.start_time));
  const auto dash = [](const std::string &text) { return text.empty() ? std::string("-") : text; };
  return {{"pid", static_cast<std::uint64_t>(w.pid)},
          {"state", std::string(w.state)},
          {"start time", start},
          {"start since", w.start_since},
          {"requests", w.requests},
          {"request duration", w.duration_us},
          {"request method", dash(w.method)},
          {"request uri", dash(w.uri)},
          {"content length", w.content_length},
          {"user", dash(w.user)},
          {"script", dash(w.script)}};
}

std::string text_of(const Value &value) {
  if (const auto *text = std::get_if<std::string>(&value))
    return *text;
  return std::to_string(std::get<std::uint64_t>(value));
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '&':
      out += "&amp;";
      break;
    case '"':
      out += "&quot;";
      break;
    case '\'':
      out += "&#039;";
      break;
    default:
      out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

std::string dashed(std::string_view name) {
  std::string out(name);
  for (char &c : out)
    c = c == ' ' ? '-' : c;
  return out;
}

void text_fields(std::string &out, const std::vector<Field> &fields) {
  for (const Field &field : fields)
    out += fmt::format("{:<22}{}\n", std::string(field.name) + ":", text_of(field.value));
}

Page as_text(const PoolState &state, bool full) {
  Page page{"text/plain", ""};
  text_fields(page.body, pool_fields(state, false));
  if (!full)
    return page;
  for (const WorkerView &worker : state.workers) {
    page.body += "\n************************\n";
    text_fields(page.body, worker_fields(worker, false));
  }
  return page;
}

nlohmann::ordered_json json_fields(const std::vector<Field> &fields) {
  nlohmann::ordered_json object;
  for (const Field &field : fields) {
    if (const auto *text = std::get_if<std::string>(&field.value))
      object[field.name] = *text;
    else
      object[field.name] = std::get<std::uint64_t>(field.value);
  }
  return object;
}

Page as_json(const PoolState &state, bool full) {
  nlohmann::ordered_json object = json_fields(pool_fields(state, true));
  if (full) {
    object["processes"] = nlohmann::ordered_json::array();
    for (const WorkerView &worker : state.workers)
      object["processes"].push_back(json_fields(worker_fields(worker, true)));
  }
  // URIs are bytes, not always UTF-8: what is not becomes a replacement character.
  return {"application/json", object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)};
}

Page as_xml(const PoolState &state, bool full) {
  Page page{"text/xml", "<?xml version=\"1.0\" ?>\n<status>\n"};
  for (const Field &field : pool_fields(state, true))
    page.body += fmt::format("<{0}>{1}</{0}>\n", dashed(field.name), escaped(text_of(field.value)));
  if (full) {
    page.body += "<processes>\n";
    for (const WorkerView &worker : state.workers) {
      page.body += "<process>";
      for (const Field &field : worker_fields(worker, true))
        page.body += fmt::format("<{0}>{1}</{0}>", dashed(field.name), escaped(text_of(field.value)));
      page.body += "</process>\n";
    }
    page.body += "</processes>\n";
  }
  page.body += "</status>\n";
  return page;
}

Page as_html(const PoolState &state, bool full) {
  Page page{"text/html", "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>tqfpm status page</title></head>\n<body>\n"
                         "<table>\n"};
  for (const Field &field : pool_fields(state, false))
    page.body += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", field.name, escaped(text_of(field.value)));
  page.body += "</table>\n";
  if (full) {
    page.body += "<table border=\"1\">\n<tr>";
    for (const Field &field : worker_fields(WorkerView{}, false))
      page.body += fmt::format("<th>{}</th>", field.name);
    page.body += "</tr>\n";
    for (const WorkerView &worker : state.workers) {
      page.body += "<tr>";
      for (const Field &field : worker_fields(worker, false))
        page.body += fmt::format("<td>{}</td>", escaped(text_of(field.value)));
      page.body += "</tr>\n";
    }
    page.body += "</table>\n";
  }
  page.body += "</body></html>\n";
  return page;
}

Page as_openmetrics(const PoolState &s) {
  Page page{"application/openmetrics-text; version=1.0.0; charset=utf-8", ""};
  const auto metric = [&page](const char *name, const char *type, const char *help, std::uint64_t value) {
    const char *suffix = std::string_view(type) == "counter" ? "_total" : "";
    page.body += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n{0}{3} {4}\n", name, type, help, suffix, value);
  };
  metric("phpfpm_up", "gauge", "Could pool be reached?", 1);
  metric("phpfpm_start_since", "counter", "Number of seconds since the pool has started.", s.start_since);
  metric("phpfpm_accepted_connections", "counter", "Connections accepted from web servers.", s.accepted);
  metric("phpfpm_listen_queue", "gauge", "Requests waiting for a worker.", s.queue);
  metric("phpfpm_max_listen_queue", "counter", "Most requests that ever waited.", s.max_queue);
  metric("phpfpm_listen_queue_length", "gauge", "Requests that may wait.", s.queue_size);
  metric("phpfpm_idle_processes", "gauge", "Idle workers.", s.idle);
  metric("phpfpm_active_processes", "gauge", "Busy workers.", s.active);
  metric("phpfpm_total_processes", "gauge", "All workers.", s.total);
  metric("phpfpm_max_active_processes", "counter", "Most workers busy at the same time.", s.max_active);
  metric("phpfpm_max_children_reached", "counter", "Times that pm.max_children was reached.", s.max_children_reached);
  metric("phpfpm_slow_requests", "counter", "Requests over request_slowlog_timeout.", s.slow_requests);
  page.body += "# EOF\n";
  return page;
}

bool asks(std::string_view query, std::string_view word) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    if (query.substr(0, end) == word)
      return true;
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
  }
  return false;
}

} // namespace

bool wants_workers(std::string_view query) {
  return asks(query, "full");
}

Page render_status(const PoolState &state, std::string_view query) {
  const bool full = wants_workers(query);
  if (asks(query, "json"))
    return as_json(state, full);
  if (asks(query, "xml"))
    return as_xml(state, full);
  if (asks(query, "html"))
    return as_html(state, full);
  if (asks(query, "openmetrics"))
    return as_openmetrics(state);
  return as_text(state, full);
}

} // namespace tqfpm::status
