package table

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Entities are sent as OData JSON. "name@odata.type" has the type of the property name;
// without it, 64-bit integers, times and bytes would be stored as strings. This package
// does not use aztables.EDMEntity, which doubles quotes in keys and reads a double that is
// a whole number as int32.
const (
	annotation = "@odata.type"
	edmInt64   = "Edm.Int64"
	edmDouble  = "Edm.Double"
	edmTime    = "Edm.DateTime"
	edmBinary  = "Edm.Binary"
	edmString  = "Edm.String"
	edmBool    = "Edm.Boolean"
	timeFormat = "2006-01-02T15:04:05.9999999Z"
)

func encode(e Entity) ([]byte, error) {
	wire := map[string]any{"PartitionKey": e.Partition, "RowKey": e.Row}
	for name, value := range e.Props {
		switch v := value.(type) {
		case int64:
			wire[name], wire[name+annotation] = strconv.FormatInt(v, 10), edmInt64
		case float64:
			wire[name], wire[name+annotation] = v, edmDouble
		case time.Time:
			wire[name], wire[name+annotation] = v.UTC().Truncate(tick).Format(timeFormat), edmTime
		case []byte:
			wire[name], wire[name+annotation] = base64.StdEncoding.EncodeToString(v), edmBinary
		default:
			wire[name] = v
		}
	}
	return json.Marshal(wire)
}

func decode(data []byte) (Entity, error) {
	var wire map[string]any
	if err := json.Unmarshal(data, &wire); err != nil {
		return Entity{}, fmt.Errorf("table: the entity is not a JSON object: %w", err)
	}
	e := Entity{Props: make(map[string]any, len(wire))}
	for name, value := range wire {
		switch {
		case name == "PartitionKey":
			e.Partition, _ = value.(string)
		case name == "RowKey":
			e.Row, _ = value.(string)
		case name == "odata.etag":
			etag, _ := value.(string)
			e.Rev = Rev{etag}
		case name == "Timestamp" || value == nil || strings.Contains(name, "odata."):
		default:
			typ, _ := wire[name+annotation].(string)
			v, err := decodeValue(typ, value)
			if err != nil {
				return Entity{}, fmt.Errorf("table: property %s: %w", name, err)
			}
			e.Props[name] = v
		}
	}
	return e, nil
}

func decodeValue(typ string, value any) (any, error) {
	text, isText := value.(string)
	switch {
	case typ == edmInt64 && isText:
		return strconv.ParseInt(text, 10, 64)
	case typ == edmTime && isText:
		return time.Parse(time.RFC3339Nano, text)
	case typ == edmBinary && isText:
		return base64.StdEncoding.DecodeString(text)
	case typ == "" || typ == edmDouble && !isText || typ == edmString || typ == edmBool:
		return value, nil
	}
	return nil, fmt.Errorf("its value %v has the type %s, which this gateway never writes", value, typ)
}
