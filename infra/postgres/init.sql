-- Run once, by the image, on an empty data folder. Passwords come from the environment.
\getenv prefect_password PREFECT_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
SET log_min_error_statement = panic;
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE "mlflow-auth" OWNER mlflow;
REVOKE CONNECT ON DATABASE prefect, mlflow, "mlflow-auth" FROM PUBLIC;
