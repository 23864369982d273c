package alerts

import _ "embed"

//go:embed schemas/alert.v1.json
var alertSchemaFile []byte

//go:embed schemas/operational.v1.json
var operationalSchemaFile []byte

// SchemaFile is the JSON Schema (draft 2020-12) that a step's ce_dataschema names, AlertSchema or OperationalSchema, nil for another name. It allows what may be
// added to the events: a subscriber that checks by it goes on working. Nobody writes into the bytes.
func SchemaFile(name string) []byte {
	switch name {
	case AlertSchema:
		return alertSchemaFile
	case OperationalSchema:
		return operationalSchemaFile
	}
	return nil
}
