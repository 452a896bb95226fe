#include "fcgi/session.h"

#include <algorithm>

#include "fcgi/writer.h"

namespace tqfpm::fcgi {

Session::Intake *Session::find(std::uint16_t id) {
  const auto found = std::find_if(intakes_.begin(), intakes_.end(), [id](const Intake &i) { return i.id == id; });
  return found == intakes_.end() ? nullptr : &*found;
}

void Session::forget(std::uint16_t id) {
  std::erase_if(intakes_, [id](const Intake &i) { return i.id == id; });
  if (body_id_ == id)
    body_wanted_ = false;
}

// Passes on (or drops) body and padding bytes of the STDIN record at hand.
std::size_t Session::body_bytes(std::string_view bytes) {
  const std::size_t used = std::min(body_left_, bytes.size());
  if (used > 0) {
    body_left_ -= used;
    if (body_wanted_)
      handler_.on_body(body_id_, bytes.substr(0, used), false);
  }
  const std::size_t padding = body_left_ == 0 ? std::min(padding_left_, bytes.size() - used) : 0;
  padding_left_ -= padding;
  return used + padding;
}

Result<std::size_t> Session::consume(std::string_view bytes) {
  std::size_t used = 0;
  while (true) {
    if (body_left_ + padding_left_ > 0) {
      used += body_bytes(bytes.substr(used));
      if (body_left_ + padding_left_ > 0)
        return used;
    }
    const std::string_view rest = bytes.substr(used);
    if (rest.size() < kHeaderLength)
      return used;
    const Header header = decode_header(rest);
    if (header.version != kVersion)
      return Error{"not FastCGI: version " + std::to_string(header.version) + " in a record header"};
    if (header.type == RecordType::kStdin && header.content_length > 0) {
      used += kHeaderLength;
      if (auto status = start_body(header); !status.ok())
        return status.error();
      continue;
    }
    if (rest.size() < header.record_length())
      return used;
    used += header.record_length();
    if (auto status = record(header, rest.substr(kHeaderLength, header.content_length)); !status.ok())
      return status.error();
  }
}

Status Session::start_body(const Header &header) {
  Intake *intake = find(header.id);
  if (intake != nullptr && !intake->params_done)
    return Error{"STDIN before the end of PARAMS"};
  body_left_ = header.content_length;
  padding_left_ = header.padding_length;
  body_id_ = header.id;
  body_wanted_ = intake != nullptr; // a request that has ended: its late body is dropped, as the specification wants
  return success();
}

Status Session::record(const Header &header, std::string_view content) {
  switch (header.type) {
  case RecordType::kBeginRequest:
    return begin(header, content);
  case RecordType::kParams:
    if (Intake *intake = find(header.id))
      return params(*intake, content);
    return success();
  case RecordType::kStdin:
    if (Intake *intake = find(header.id)) {
      if (!intake->params_done)
        return Error{"STDIN before the end of PARAMS"};
      forget(header.id);
      handler_.on_body(header.id, {}, true);
    }
    return success();
  case RecordType::kAbortRequest:
    forget(header.id);
    handler_.on_abort(header.id);
    return success();
  case RecordType::kData:
    return success(); // belongs to the filter role, which is refused
  default:
    break;
  }
  std::string reply;
  if (header.id == 0 && header.type == RecordType::kGetValues)
    append_values_result(reply, content, limits_.advertised, limits_.advertised);
  else if (header.id == 0)
    append_unknown_type(reply, static_cast<std::uint8_t>(header.type));
  else
    return Error{"record of type " + std::to_string(static_cast<int>(header.type)) + " from a web server"};
  handler_.on_reply(reply);
  return success();
}

Status Session::begin(const Header &header, std::string_view content) {
  if (content.size() < 8)
    return Error{"BEGIN_REQUEST of " + std::to_string(content.size()) + " bytes, 8 are needed"};
  if (find(header.id) != nullptr)
    return Error{"BEGIN_REQUEST for request id " + std::to_string(header.id) + ", which is in use"};
  const auto role = static_cast<Role>(u16_at(content, 0));
  ProtocolStatus refusal = ProtocolStatus::kRequestComplete;
  if (role != Role::kResponder && role != Role::kAuthorizer)
    refusal = ProtocolStatus::kUnknownRole;
  else if (intakes_.size() >= limits_.max_requests)
    refusal = ProtocolStatus::kOverloaded;
  if (refusal != ProtocolStatus::kRequestComplete) {
    std::string reply;
    append_end_request(reply, header.id, 0, refusal);
    handler_.on_reply(reply);
    return success();
  }
  intakes_.push_back(Intake{header.id, role, (byte_at(content, 2) & kKeepConnection) != 0, false, {}});
  return success();
}

Status Session::params(Intake &intake, std::string_view content) {
  if (intake.params_done)
    return Error{"PARAMS after their end"};
  if (!content.empty()) {
    if (intake.params.size() + content.size() > limits_.max_params)
      return Error{"PARAMS of more than " + std::to_string(limits_.max_params) + " bytes"};
    intake.params.append(content);
    return success();
  }
  intake.params_done = true;
  const std::uint16_t id = intake.id;
  const bool authorizer = intake.role == Role::kAuthorizer;
  handler_.on_params(id, intake.role, intake.keep, std::move(intake.params));
  if (authorizer && find(id) != nullptr) { // an authorizer has no body
    forget(id);
    handler_.on_body(id, {}, true);
  }
  return success();
}

} // namespace tqfpm::fcgi
