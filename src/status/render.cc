#include "status/render.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/local_time.h"
#include "base/text.h"
#include "status/pool_fields.h"

namespace tqfpm::status {

namespace {

constexpr char kTextType[] = "Content-type: text/plain;charset=UTF-8";
constexpr char kHtmlType[] = "Content-type: text/html;charset=UTF-8";
constexpr char kXmlType[] = "Content-type: text/xml;charset=UTF-8";
constexpr char kJsonType[] = "Content-Type: application/json";

std::vector<Field> own_fields(const PoolState &s) {
  std::vector<Field> fields = {{"tqfpm version", s.version}};
  for (std::size_t i = 0; i < s.metrics.size(); ++i) {
    const auto metric = static_cast<Metric>(i);
    if (metric != Metric::max_children_reached && metric != Metric::slow_requests) // these are php-fpm's, too
      fields.push_back({joined_words(kMetrics[i].name, ' '), s.metrics[i]});
  }
  return fields;
}

// For people; programs get a moment as a number.
std::string text_of(const FieldValue &value, bool for_people = false) {
  if (const auto *text = std::get_if<std::string>(&value))
    return *text;
  if (const auto *uri = std::get_if<Uri>(&value))
    return uri->text;
  if (const auto *real = std::get_if<double>(&value))
    return fmt::format("{:.2f}", *real);
  if (const auto *moment = std::get_if<Moment>(&value))
    return for_people ? local_time(moment->when, kAccessTime) : std::to_string(moment->when);
  return std::to_string(std::get<std::uint64_t>(value));
}

// --- text -----------------------------------------------------------------------------------------------------------

void text_fields(std::string &out, const std::vector<Field> &fields) {
  for (const Field &field : fields)
    out += fmt::format("{:<21} {}\n", (field.name == "request uri" ? "request URI" : field.name) + ":",
                       safe(text_of(field.value, true)));
}

Page as_text(const PoolState &state, bool full) {
  Page page{kTextType, ""};
  text_fields(page.body, pool_fields(state));
  text_fields(page.body, own_fields(state));
  if (!full)
    return page;
  for (const WorkerView &worker : state.workers) {
    page.body += "\n************************\n";
    text_fields(page.body, worker_fields(worker));
  }
  return page;
}

// --- json -----------------------------------------------------------------------------------------------------------

std::string json_value(const FieldValue &value) {
  if (const auto *uri = std::get_if<Uri>(&value))
    return php_json_string(uri->text);
  if (const auto *text = std::get_if<std::string>(&value))
    return nlohmann::json(*text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text_of(value);
}

std::string json_fields(const std::vector<Field> &fields) {
  std::string out;
  for (const Field &field : fields)
    out += fmt::format("{}\"{}\":{}", out.empty() ? "" : ",", field.name, json_value(field.value));
  return out;
}

Page as_json(const PoolState &state, bool full) {
  Page page{kJsonType, "{" + json_fields(pool_fields(state))};
  if (full) {
    page.body += ", \"processes\":[";
    for (const WorkerView &worker : state.workers)
      page.body += fmt::format("{}{{{}}}", page.body.ends_with('[') ? "" : ",", json_fields(worker_fields(worker)));
    page.body += "],\"tqfpm\":{" + json_fields(own_fields(state)) + "}";
  }
  page.body += "}";
  return page;
}

// --- xml ------------------------------------------------------------------------------------------------------------

std::string xml_fields(const std::vector<Field> &fields, const char *separator) {
  std::string out;
  for (const Field &field : fields)
    out +=
        fmt::format("<{0}>{1}</{0}>{2}", joined_words(field.name, '-'), escape_markup(text_of(field.value)), separator);
  return out;
}

Page as_xml(const PoolState &state, bool full) {
  Page page{kXmlType, "<?xml version=\"1.0\" ?>\n<status>\n" + xml_fields(pool_fields(state), "\n")};
  if (full) {
    page.body += "<processes>\n";
    for (const WorkerView &worker : state.workers)
      page.body += "<process>" + xml_fields(worker_fields(worker), "") + "</process>\n";
    page.body += "</processes>\n<tqfpm>\n" + xml_fields(own_fields(state), "\n") + "</tqfpm>\n";
  }
  page.body += "</status>";
  return page;
}

// --- html -----------------------------------------------------------------------------------------------------------

constexpr char kPlainHead[] = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" "
                              "\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\n"
                              "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n"
                              "<head><title>PHP-FPM Status Page</title></head>\n<body>\n";
// With `full` a page to look at.
constexpr char kFullHead[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\"><title>PHP-FPM Status Page</title>\n"
    "<style>\n"
    ":root{color-scheme:light dark}\n"
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:90em;padding:0 1em}\n"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.6em}\n"
    "table{border-collapse:collapse;border:0}th,td{padding:.25em .8em;text-align:left;border:0;"
    "border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}\n"
    "th{font-weight:600;white-space:nowrap}.list{display:block;overflow-x:auto}"
    ".list tr:first-child th{border-bottom:2px solid #8888}\n"
    ".list td{white-space:nowrap;max-width:40em;overflow:hidden;text-overflow:ellipsis}\n"
    "td.Running{color:#b45309;font-weight:600}td.Idle{color:#15803d}td.Ending,td.Finishing,td.Starting{color:#6b7280}\n"
    "</style></head>\n<body>\n";

std::string html_rows(const std::vector<Field> &fields) {
  std::string out = "<table>\n";
  for (const Field &field : fields)
    out += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", field.name, escape_markup(text_of(field.value, true)));
  return out + "</table>\n";
}

std::string html_workers(const std::vector<WorkerView> &workers) {
  std::string out = "<table border=\"1\" class=\"list\">\n<tr>";
  for (const Field &field : worker_fields(WorkerView{}))
    out += "<th>" + field.name + "</th>";
  out += "</tr>\n";
  for (const WorkerView &worker : workers) {
    out += "<tr>";
    for (const Field &field : worker_fields(worker)) {
      const std::string text = escape_markup(text_of(field.value, true));
      out += field.name == "state" ? fmt::format("<td class=\"{0}\">{0}</td>", text) : "<td>" + text + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</table>";
}

Page as_html(const PoolState &state, bool full) {
  if (!full)
    return {kHtmlType, kPlainHead + html_rows(pool_fields(state)) + "</body></html>"};
  return {kHtmlType, kFullHead + fmt::format("<h1>Pool {}</h1>\n", escape_markup(state.pool)) +
                         html_rows(pool_fields(state)) + "<h2>Workers</h2>\n" + html_workers(state.workers) +
                         "\n<h2>tqfpm</h2>\n" + html_rows(own_fields(state)) + "</body></html>"};
}

// --- openmetrics ----------------------------------------------------------------------------------------------------

std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"')
      out += '\\';
    out += c;
  }
  return out;
}

// The rows of counters.def, each with the pool as a label: pools can be scraped into one place.
std::string own_metrics(const PoolState &s) {
  const std::string pool = label(s.pool);
  std::string out = fmt::format("# HELP tqfpm_build Version of tqfpm.\n# TYPE tqfpm_build info\n"
                                "tqfpm_build_info{{version=\"{}\"}} 1\n",
                                label(s.version));
  for (std::size_t i = 0; i < s.metrics.size(); ++i) {
    const MetricInfo &info = kMetrics[i];
    const bool counter = info.kind == MetricKind::kCounter;
    out += fmt::format("# HELP tqfpm_{0} {1}.\n# TYPE tqfpm_{0} {2}\ntqfpm_{0}{3}{{pool=\"{4}\"}} {5}\n", info.name,
                       info.help, counter ? "counter" : "gauge", counter ? "_total" : "", pool, s.metrics[i]);
  }
  return out;
}

Page as_openmetrics(const PoolState &s) {
  Page page{"Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8", own_metrics(s)};
  page.body += fmt::format("# HELP phpfpm_up Could pool {} using a {} PM on PHP-FPM be reached?\n"
                           "# TYPE phpfpm_up gauge\nphpfpm_up 1\n",
                           s.pool, s.manager);
  for (const Field &field : pool_fields(s)) {
    if (field.metric.empty())
      continue;
    std::string help = fmt::format("# HELP phpfpm_{} {}\n", field.metric, field.help);
    std::string type = fmt::format("# TYPE phpfpm_{} {}\n", field.metric, field.type);
    if (field.metric == "listen_queue_length") // php-fpm has the two the other way round there
      help.swap(type);
    page.body += fmt::format("{}{}phpfpm_{} {}\n", help, type, field.metric, text_of(field.value));
  }
  page.body += "# EOF\n";
  return page;
}

bool asks(std::string_view query, std::string_view word) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view part = query.substr(0, end);
    if (part.substr(0, part.find('=')) == word)
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
  if (asks(query, "html"))
    return as_html(state, full);
  if (asks(query, "xml"))
    return as_xml(state, full);
  if (asks(query, "json"))
    return as_json(state, full);
  if (asks(query, "openmetrics"))
    return as_openmetrics(state);
  return as_text(state, full);
}

} // namespace tqfpm::status
