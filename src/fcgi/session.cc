#include "fcgi/session.h"

#include <algorithm>

#include "base/text.h"
#include "fcgi/writer.h"

namespace tqfpm::fcgi {

namespace {

using Kind = Arrival::Kind;

Arrival arrival(Kind kind, std::uint16_t id) {
  Arrival result;
  result.kind = kind;
  result.id = id;
  return result;
}

Arrival malformed(std::string why) {
  Arrival result;
  result.kind = Kind::kMalformed;
  result.content = std::move(why);
  return result;
}

Arrival reply(std::string bytes, bool keep) {
  Arrival result;
  result.keep = keep;
  result.kind = Kind::kReply;
  result.content = std::move(bytes);
  return result;
}

} // namespace

Session::Intake *Session::find(std::uint16_t id) {
  const auto found = std::find_if(intakes_.begin(), intakes_.end(), [id](const Intake &i) { return i.id == id; });
  return found == intakes_.end() ? nullptr : &*found;
}

void Session::answered(std::uint16_t id) {
  std::erase_if(intakes_, [this, id](const Intake &each) {
    held_ -= each.id == id ? each.params.size() : 0;
    return each.id == id;
  });
  if (body_id_ == id)
    body_wanted_ = false;
}

bool Session::in_params() const {
  return std::any_of(intakes_.begin(), intakes_.end(), [](const Intake &i) { return i.stage == Stage::kParams; });
}

// Body bytes of the STDIN record at hand, then its padding; kNothing: the record is over, or the bytes are.
Arrival Session::body(std::string_view &bytes) {
  const std::string_view data = bytes.substr(0, body_left_);
  bytes.remove_prefix(data.size());
  body_left_ -= data.size();
  const std::size_t padding = body_left_ == 0 ? std::min(padding_left_, bytes.size()) : 0;
  bytes.remove_prefix(padding);
  padding_left_ -= padding;
  if (data.empty() || !body_wanted_)
    return {};
  Arrival result = arrival(Kind::kBody, body_id_);
  result.data = data;
  return result;
}

Arrival Session::next(std::string_view &bytes) {
  while (true) {
    if (in_record()) {
      if (Arrival piece = body(bytes); piece.kind != Kind::kNothing)
        return piece;
      if (in_record())
        return {};
    }
    if (bytes.size() < kHeaderLength)
      return {};
    const Header header = decode_header(bytes);
    if (header.version != kVersion)
      return malformed("not FastCGI: version " + std::to_string(header.version) + " in a record header");
    if (header.type == RecordType::kStdin && header.content_length > 0) {
      const Intake *intake = find(header.id);
      if (intake != nullptr && intake->stage == Stage::kParams)
        return malformed("STDIN before the end of PARAMS");
      bytes.remove_prefix(kHeaderLength);
      body_left_ = header.content_length;
      padding_left_ = header.padding_length;
      body_id_ = header.id;
      // A request that has ended: its late body is dropped, as the specification wants.
      body_wanted_ = intake != nullptr && intake->stage == Stage::kBody;
      continue;
    }
    if (bytes.size() < header.record_length())
      return {};
    Arrival result = record(header, bytes.substr(kHeaderLength, header.content_length));
    if (result.kind == Kind::kWait)
      return result;
    bytes.remove_prefix(header.record_length());
    if (result.kind != Kind::kNothing)
      return result;
  }
}

Arrival Session::record(const Header &header, std::string_view content) {
  switch (header.type) {
  case RecordType::kBeginRequest:
    return begin(header, content);
  case RecordType::kParams:
    if (Intake *intake = find(header.id))
      return params(*intake, content);
    return {}; // of a request that has ended, or was refused
  case RecordType::kStdin:
    return end_of_body(header.id);
  case RecordType::kAbortRequest:
    return abort(header.id);
  case RecordType::kData:
    return {}; // belongs to the filter role, which is refused
  default:
    return management(header, content);
  }
}

Arrival Session::management(const Header &header, std::string_view content) const {
  if (header.id != 0)
    return malformed("record of type " + std::to_string(static_cast<int>(header.type)) + " from a web server");
  std::string bytes;
  if (header.type == RecordType::kGetValues)
    append_values_result(bytes, content, limits_.advertised, limits_.advertised);
  else
    append_unknown_type(bytes, static_cast<std::uint8_t>(header.type));
  return reply(std::move(bytes), true);
}

Arrival Session::begin(const Header &header, std::string_view content) {
  if (content.size() < 8)
    return malformed("BEGIN_REQUEST of " + std::to_string(content.size()) + " bytes, 8 are needed");
  if (const Intake *intake = find(header.id)) {
    if (intake->stage == Stage::kReceived)
      return arrival(Kind::kWait, header.id);
    return malformed("BEGIN_REQUEST for request id " + std::to_string(header.id) + ", which is being received");
  }
  const auto role = static_cast<Role>(u16_at(content, 0));
  const bool keep = (byte_at(content, 2) & kKeepConnection) != 0;
  ProtocolStatus refusal = ProtocolStatus::kRequestComplete;
  if (role != Role::kResponder && role != Role::kAuthorizer)
    refusal = ProtocolStatus::kUnknownRole;
  else if (intakes_.size() >= limits_.max_requests)
    refusal = ProtocolStatus::kOverloaded;
  if (refusal != ProtocolStatus::kRequestComplete) {
    std::string bytes;
    append_end_request(bytes, header.id, 0, refusal);
    return reply(std::move(bytes), keep);
  }
  intakes_.push_back(Intake{header.id, role, keep, Stage::kParams, {}});
  return {};
}

Arrival Session::params(Intake &intake, std::string_view content) {
  if (intake.stage != Stage::kParams)
    return malformed("PARAMS after their end");
  if (content.empty())
    return params_done(intake, false);
  if (intake.params.size() + content.size() > limits_.max_params || held_ + content.size() > limits_.max_held)
    return params_done(intake, true);
  intake.params.append(content);
  held_ += content.size();
  return {};
}

// With `too_long` the rest of them has to be dropped: the caller answers the request at once.
Arrival Session::params_done(Intake &intake, bool too_long) {
  Arrival result = arrival(Kind::kParams, intake.id);
  result.role = intake.role;
  result.keep = intake.keep;
  result.too_long = too_long;
  held_ -= intake.params.size();
  if (!too_long)
    result.content = std::move(intake.params);
  empty(intake.params, 0);
  intake.stage = intake.role == Role::kAuthorizer ? Stage::kReceived : Stage::kBody;
  return result;
}

Arrival Session::end_of_body(std::uint16_t id) {
  Intake *intake = find(id);
  if (intake == nullptr || intake->stage == Stage::kReceived)
    return {};
  if (intake->stage == Stage::kParams)
    return malformed("STDIN before the end of PARAMS");
  intake->stage = Stage::kReceived;
  return arrival(Kind::kBodyEnd, id);
}

// Before the end of the parameters nobody else knows the request: it gets its END_REQUEST here.
Arrival Session::abort(std::uint16_t id) {
  const Intake *intake = find(id);
  if (intake == nullptr)
    return {};
  if (intake->stage != Stage::kParams)
    return arrival(Kind::kAbort, id);
  const bool keep = intake->keep;
  answered(id);
  std::string bytes;
  append_end_request(bytes, id, 0, ProtocolStatus::kRequestComplete);
  return reply(std::move(bytes), keep);
}

} // namespace tqfpm::fcgi
